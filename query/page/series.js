// What a chart shows: windows of the size that the range needs, raw readings where it is short.

import { rows, sql } from "./api.js";
import { event, ANOMALY_COLUMNS } from "./plant.js";
import { millis, rfc3339 } from "./format.js";

const S = 1000, M = 60 * S, H = 60 * M, D = 24 * H;
const RAW_SPAN_MS = 10 * M;
const RAW_ROWS_MAX = 6000;
const POINTS_MAX = 800;
/** The views may lead the archive by so much before a chart prefers them. */
const ARCHIVE_BEHIND_MS = 30 * S;

/** Sizes of a point, each with the view that it is made of and its interval. */
const STEPS = [
  [10 * S, "10s", "10 seconds"], [30 * S, "10s", "30 seconds"], [M, "1m", "1 minute"], [2 * M, "1m", "2 minutes"],
  [5 * M, "1m", "5 minutes"], [10 * M, "1m", "10 minutes"], [H, "1h", "1 hour"], [2 * H, "1h", "2 hours"],
  [6 * H, "1h", "6 hours"], [12 * H, "1h", "12 hours"], [D, "1d", "1 day"], [7 * D, "1d", "7 days"], [28 * D, "1d", "28 days"],
];
const BASE = { "10s": 10 * S, "1m": M, "1h": H, "1d": D };

export function stepFor(span) {
  return STEPS.find(([step]) => span / step <= POINTS_MAX) ?? STEPS.at(-1);
}

/** One chart's content; `freshest` is the machine's newest reading. */
export async function series(machine, sensors, from, to, freshest, signal) {
  const [step, view, interval] = stepFor(to - from);
  const wantsRaw = to - from <= RAW_SPAN_MS;
  const [windows, raw, marks] = await Promise.all([
    windowsOf(machine, sensors, from, to, step, view, interval, signal),
    wantsRaw ? rawOf(machine, sensors, from, to, signal) : null,
    marksOf(machine, from, to, signal),
  ]);
  // A sensor may be slow or silent: what tells is how far the archive itself is.
  const archived = raw && Math.min(to, freshest) - raw.archive < ARCHIVE_BEHIND_MS;
  const lines = archived ? raw.lines : windows.lines;
  return { step, raw: Boolean(archived), label: archived ? "raw readings" : `mean, least and largest of ${interval}`, lines, scores: windows.scores, marks };
}

function places(sensors, from) {
  return sensors.map((_, at) => `$${from + at}`).join(", ");
}

async function windowsOf(machine, sensors, from, to, step, view, interval, signal) {
  const where = `FROM readings_${view} WHERE machine = $1 AND time >= $2 AND time < $3 AND sensor IN (${places(sensors, 4)})`;
  const query = step === BASE[view]
    ? `SELECT sensor, time AS t, "count", "sum", "min", "max", score, bad ${where} ORDER BY t`
    : `SELECT sensor, date_bin(INTERVAL '${interval}', time) AS t, sum("count"), sum("sum"), min("min"), max("max"), max(score), sum(bad) ${where} GROUP BY sensor, t ORDER BY t`;
  const params = [machine, rfc3339(Math.floor((from - step) / step) * step), rfc3339(to + step), ...sensors];
  const answer = await sql(query, params, { signal, maxRows: 100_000 });
  const lines = new Map(sensors.map((name) => [name, []]));
  const scores = [];
  for (const [sensor, time, n, sum, min, max, score, bad] of answer.rows) {
    const t = millis(time) + step / 2;
    if (n > 0 && sum !== null) lines.get(sensor)?.push({ t, v: sum / n, min, max, n, bad });
    if (score === null) continue;
    if (scores.at(-1)?.t === t) scores.at(-1).v = Math.max(scores.at(-1).v, score);
    else scores.push({ t, v: score });
  }
  return { lines, scores };
}

async function rawOf(machine, sensors, from, to, signal) {
  const query = `SELECT sensor, time, value, text, quality FROM readings WHERE machine = $1 AND time >= $2 AND time < $3 AND sensor IN (${places(sensors, 4)}) ORDER BY time`;
  const answer = await sql(query, [machine, rfc3339(from), rfc3339(to), ...sensors], { signal, maxRows: RAW_ROWS_MAX });
  if (answer.truncated) return null;
  const lines = new Map(sensors.map((name) => [name, []]));
  for (const [sensor, time, v, text, quality] of answer.rows) {
    const t = millis(time);
    // The two top bits of an OPC UA status say good, uncertain or bad.
    lines.get(sensor)?.push({ t, v, min: v, max: v, n: 1, bad: quality >>> 30 ? 1 : 0, text });
  }
  return { lines, archive: (answer.freshness?.archive_us ?? -Infinity) / 1000 };
}

async function marksOf(machine, from, to, signal) {
  const query = `SELECT ${ANOMALY_COLUMNS} FROM anomalies WHERE machine = $1 AND time < $2 AND (until IS NULL OR until >= $3) ORDER BY time DESC LIMIT 500`;
  return (await rows(query, [machine, rfc3339(to), rfc3339(from)], { signal })).map(event).reverse();
}

/** The same range as a statement to work on by hand. */
export function statement(machine, sensors, { from, to }) {
  const quote = (name) => `'${name.replaceAll("'", "''")}'`;
  return `SELECT time, sensor, value, text, quality\nFROM readings\nWHERE machine = ${quote(machine)}\n  AND sensor IN (${sensors.map(quote).join(", ")})\n  AND time >= ${quote(rfc3339(from))} AND time < ${quote(rfc3339(to))}\nORDER BY time`;
}

/** When the data of a machine begins, to ten seconds. */
export async function beginning(machine, signal) {
  const [day] = await rows("SELECT min(time) AS t FROM readings_1d WHERE machine = $1", [machine], { signal });
  const start = millis(day?.t ?? null);
  if (start === null) return null;
  const [exact] = await rows("SELECT min(time) AS t FROM readings_1m WHERE machine = $1 AND time >= $2 AND time < $3", [machine, rfc3339(start), rfc3339(start + D)], { signal });
  return millis(exact?.t ?? null) ?? start;
}
