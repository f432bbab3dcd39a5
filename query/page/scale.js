// Ticks that fall on numbers and times that people think in.

import { parts, fromParts, MONTHS, two } from "./format.js";

/** Round values covering [low, high]. */
export function valueTicks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? rough;
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9 && ticks.length < 50; n += 1) ticks.push(n * step);
  return { ticks, step };
}

export function tickLabel(v, step) {
  const size = Math.max(Math.abs(v), step);
  if (size >= 1e6 || step < 1e-5) return v === 0 ? "0" : v.toExponential(2).replace("e+", "e");
  const decimals = Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)));
  const finer = Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6 ? 1 : 0;
  return (Math.abs(v) < step * 1e-6 ? 0 : v).toFixed(decimals + finer).replace("-", "\u2212");
}

const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200].map((s) => s * 1000);
const FINE = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const DAY = 86_400_000;

/** Instants in [from, to], aligned in the zone in force, with labels; a date is given where it changes. */
export function timeTicks(from, to, most) {
  const rough = (to - from) / Math.max(1, most);
  const step = [...FINE, ...SECONDS].find((ms) => ms >= rough);
  const ticks = step ? clockTicks(from, to, step) : rough <= 16 * DAY ? dayTicks(from, to, Math.ceil(rough / DAY)) : monthTicks(from, to, rough / (30.44 * DAY));
  return ticks.filter((tick) => tick.t >= from && tick.t <= to);
}

function clockTicks(from, to, step) {
  const p = parts(from);
  const midnight = fromParts(p.y, p.mo, p.d);
  const ticks = [];
  for (let t = midnight + Math.floor((from - midnight) / step) * step; t <= to; t += step) {
    const at = parts(t);
    const start = at.h === 0 && at.m === 0 && at.s === 0 && at.ms === 0;
    const time = `${two(at.h)}:${two(at.m)}`;
    const fine = step < 1000 ? `${time}:${two(at.s)}.${String(at.ms).padStart(3, "0")}` : step < 60_000 ? `${time}:${two(at.s)}` : time;
    ticks.push({ t, label: start ? `${at.d} ${MONTHS[at.mo]}` : fine, strong: start });
  }
  return ticks;
}

function dayTicks(from, to, days) {
  const p = parts(from);
  const every = [1, 2, 3, 5, 7, 10, 15].find((n) => n >= days) ?? 16;
  const ticks = [];
  for (let n = 0; n < 400; n += every) {
    const t = fromParts(p.y, p.mo, p.d + n);
    if (t > to) break;
    const at = parts(t);
    ticks.push({ t, label: `${at.d} ${MONTHS[at.mo]}`, strong: at.d === 1 });
  }
  return ticks;
}

function monthTicks(from, to, months) {
  const p = parts(from);
  const every = [1, 2, 3, 6, 12, 24, 60, 120, 240].find((n) => n >= months) ?? 600;
  const first = every >= 12 ? 0 : Math.floor(p.mo / every) * every;
  const ticks = [];
  for (let n = 0; n < 2000; n += every) {
    const t = fromParts(p.y, first + n, 1);
    if (t > to) break;
    const at = parts(t);
    ticks.push({ t, label: at.mo === 0 || every >= 12 ? String(at.y) : MONTHS[at.mo], strong: at.mo === 0 });
  }
  return ticks;
}
