// Numbers, units and times as people read them.

const DASH = "–";
let utc = keep("clock") !== "local";

export const isUtc = () => utc;

export function setUtc(on) {
  utc = on;
  keep("clock", on ? "utc" : "local");
}

/** A remembered choice; storage can be forbidden, then the choice lasts as long as the page. */
export function keep(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch { /* not remembered */ }
  return value ?? null;
}

/** A whole number with thin spaces. */
export function count(n) {
  return n === null || n === undefined || !Number.isFinite(n) ? DASH : Math.round(n).toLocaleString("en").replaceAll(",", "\u202f");
}

/** A large count in few characters: 12.4 M. */
export function short(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return DASH;
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    const shown = size === 1e4 ? 1e3 : size;
    if (Math.abs(n) >= size) return `${(n / shown).toFixed(Math.abs(n) / shown < 100 ? 1 : 0)}\u202f${unit}`;
  }
  return count(n);
}

/** A measured value, four significant digits unless it is a large whole number. */
export function value(n, digits = 4) {
  if (n === null || n === undefined || !Number.isFinite(n)) return DASH;
  const size = Math.abs(n);
  if (size !== 0 && (size >= 1e7 || size < 1e-3)) return n.toExponential(Math.max(1, digits - 2)).replace("e+", "e");
  const decimals = size === 0 ? 0 : Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return String(Number(n.toFixed(Math.min(8, decimals)))).replace("-", "\u2212");
}

export function withUnit(n, unit, digits) {
  return unit ? `${value(n, digits)}\u202f${unit}` : value(n, digits);
}

/** A duration in ms in at most two units. */
export function span(ms) {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return DASH;
  const size = Math.abs(ms);
  if (size < 1000) return `${value(ms, 2)}\u202fms`;
  if (size < 10_000) return `${(ms / 1000).toFixed(1)}\u202fs`;
  const units = [[31_557_600, "y"], [86_400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  let left = Math.round(size / 1000);
  const at = units.findIndex(([length]) => left >= length);
  const parts = [];
  for (const [length, name] of units.slice(at, at + 2)) {
    const n = Math.floor(left / length);
    left -= n * length;
    if (n > 0) parts.push(`${n}\u202f${name}`);
  }
  return parts.join(" ");
}

/** How long ago, never negative: clocks differ by a little. */
export function ago(ms, now) {
  const age = now - ms;
  if (!Number.isFinite(age)) return DASH;
  return age < 1500 ? "now" : `${span(Math.max(1000, Math.round(age / 1000) * 1000)).replace(/\.0\u202fs/, "\u202fs")} ago`;
}

/** RFC 3339 as ms with its microseconds kept as a fraction. */
export function millis(time) {
  if (!time) return null;
  const fraction = time.length === 27 ? Number(time.slice(19, 26)) * 1000 : NaN;
  return Number.isFinite(fraction) ? Date.parse(`${time.slice(0, 19)}Z`) + fraction : Date.parse(time);
}

/** ms as RFC 3339 with microseconds. */
export function rfc3339(ms) {
  const whole = Math.floor(ms);
  const micros = Math.round((ms - whole) * 1000);
  return new Date(whole).toISOString().replace("Z", `${String(Math.min(999, micros)).padStart(3, "0")}Z`);
}

/** The parts of an instant in the zone in force. */
export function parts(ms) {
  const d = new Date(ms);
  return utc
    ? { y: d.getUTCFullYear(), mo: d.getUTCMonth(), d: d.getUTCDate(), h: d.getUTCHours(), m: d.getUTCMinutes(), s: d.getUTCSeconds(), ms: d.getUTCMilliseconds() }
    : { y: d.getFullYear(), mo: d.getMonth(), d: d.getDate(), h: d.getHours(), m: d.getMinutes(), s: d.getSeconds(), ms: d.getMilliseconds() };
}

export function fromParts(y, mo, d) {
  return utc ? Date.UTC(y, mo, d) : new Date(y, mo, d).getTime();
}

export const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
export const two = (n) => String(n).padStart(2, "0");

export function clock(ms, withMillis = false) {
  const p = parts(ms);
  return `${two(p.h)}:${two(p.m)}:${two(p.s)}${withMillis ? `.${String(p.ms).padStart(3, "0")}` : ""}`;
}

export function date(ms) {
  const p = parts(ms);
  return `${p.y}-${two(p.mo + 1)}-${two(p.d)}`;
}

/** Date and time; the date is left out where it is today's. */
export function stamp(ms, now = Date.now()) {
  if (ms === null || !Number.isFinite(ms)) return DASH;
  return date(ms) === date(now) ? clock(ms) : `${date(ms)} ${clock(ms)}`;
}
