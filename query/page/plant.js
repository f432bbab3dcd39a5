// What all views share: the pipeline's marks, the machines and the anomalies, asked for once and handed round.

import { get, heardNow, now, poll, rows } from "./api.js";
import { millis } from "./format.js";

const SILENT_MS = 60_000;
const HISTORY_MS = 300_000;
const RATE_MS = 5_000;
export const ANOMALIES_MAX = 500;

/** Null means not known yet. */
export const plant = {
  pipeline: null, health: null, machines: null, anomalies: null, open: null, archived: null, deadLetters: null,
  /** What went wrong with each question last, or null. */
  errors: {},
  /** Counts of readings over time, and rates per second. */
  history: [], rates: [], counts: null,
};

const listeners = new Set();

export function onChange(listener) {
  listeners.add(listener);
}

const changed = (what) => listeners.forEach((listener) => listener(what));

/** A question whose answer goes to `plant[name]`. */
function asks(name, every, work) {
  return poll(async (signal) => {
    try {
      plant[name] = await work(signal);
      plant.errors[name] = null;
    } catch (error) {
      if (error.name !== "AbortError") plant.errors[name] = error;
      throw error;
    } finally {
      if (!signal.aborted) changed(name);
    }
  }, every);
}

export function start() {
  asks("pipeline", 1000, pipeline);
  asks("health", 5000, (signal) => get("/health", signal));
  asks("machines", 2500, machines);
  asks("anomalies", 3000, anomalies);
  asks("deadLetters", 30_000, async (signal) => (await rows("SELECT count(*) AS n FROM dead_letters", [], { signal }))[0].n);
}

async function pipeline(signal) {
  const report = await get("/v1/pipeline", signal);
  heardNow(report.now_us);
  plant.archived = report.archived_readings ?? plant.archived;
  const known = report.partitions.filter((one) => one.readings !== null);
  // While the views are away the archive's own count tells the rate.
  const away = report.views_away || report.views_error;
  const total = away ? report.archived_readings : known.reduce((sum, one) => sum + one.readings, 0);
  if (total !== null) {
    const at = report.now_us / 1000;
    const { history, rates } = plant;
    const counts = away ? "archive" : "views";
    // A count that fell, or another one, is another set of partitions, not negative work.
    if (plant.counts !== counts || (history.length && history.at(-1).total > total)) history.length = 0;
    plant.counts = counts;
    history.push({ at, total });
    while (history.length > 2 && history[0].at < at - (away ? 2 : 1) * RATE_MS) history.shift();
    const elapsed = (at - history[0].at) / 1000;
    if (elapsed > 0.5) rates.push({ at, rate: (total - history[0].total) / elapsed });
    while (rates.length && rates[0].at < at - HISTORY_MS) rates.shift();
  }
  return report;
}

async function machines(signal) {
  const [seen, scored, open] = await Promise.all([
    rows("SELECT machine, count(*) AS sensors, max(time) AS time, last_value(score ORDER BY time) FILTER (WHERE score IS NOT NULL) AS score FROM latest GROUP BY machine", [], { signal }),
    rows("SELECT machine, model, rows, threshold, since FROM machines_scored", [], { signal }),
    rows("SELECT machine, count(*) AS n FROM anomalies WHERE until IS NULL GROUP BY machine", [], { signal }),
  ]);
  const models = new Map(scored.map((row) => [row.machine, row]));
  const events = new Map(open.map((row) => [row.machine, row.n]));
  plant.open = open.reduce((sum, row) => sum + row.n, 0);
  return seen.map((row) => {
    const model = models.get(row.machine) ?? null;
    const one = { name: row.machine, sensors: row.sensors, time: millis(row.time), score: row.score, model, open: events.get(row.machine) ?? 0 };
    one.state = state(one);
    return one;
  });
}

function state(machine) {
  if (machine.open > 0) return "anomaly";
  if (now() - machine.time > SILENT_MS) return "silent";
  if (!machine.model) return "unscored";
  return machine.model.model === "" ? "commissioning" : "normal";
}

export const STATES = {
  anomaly: "Anomaly", normal: "Normal", commissioning: "Commissioning", unscored: "Not scored", silent: "Silent",
};

export const ANOMALY_COLUMNS = "time, until, machine, sensors, score, peak_score, threshold, model, id";

async function anomalies(signal) {
  const found = await rows(`SELECT ${ANOMALY_COLUMNS} FROM anomalies ORDER BY time DESC LIMIT ${ANOMALIES_MAX}`, [], { signal });
  return found.map(event);
}

export function event(row) {
  return { ...row, time: millis(row.time), until: millis(row.until) };
}

/** Records and ms that the views and the archive are behind the end of the topic. */
export function lag(report) {
  const at = report.now_us / 1000;
  const behind = (mark) => {
    let records = 0, ms = 0, known = false;
    for (const one of report.partitions) {
      if (one.end === null || one[mark] === null) continue;
      known = true;
      const left = Math.max(0, one.end - one[mark]);
      records += left;
      if (left > 0) ms = Math.max(ms, at - one[`${mark}_updated_us`] / 1000);
    }
    return known ? { records, ms: Math.max(0, ms) } : null;
  };
  return { visible: behind("visible"), durable: behind("durable") };
}
