// Asking the service: one request per question at a time, none while nobody looks.

let skewMs = 0;
let paused = false;
const tasks = new Set();

/** The service's time: a viewer's clock may be wrong, and ages must not be. */
export const now = () => Date.now() + skewMs;

export function heardNow(us) {
  skewMs = us / 1000 - Date.now();
}

/** An answer that says what is wrong. */
export class Refused extends Error {
  constructor(message, status, position = null) {
    super(message);
    this.status = status;
    this.position = position;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("Stillwell does not answer", 0);
  }
  return answer;
}

async function refusal(answer) {
  const body = await answer.json().catch(() => null);
  return new Refused(body?.error?.message ?? `${answer.status} ${answer.statusText}`, answer.status, body?.error?.position ?? null);
}

export async function get(path, signal) {
  const answer = await ask(path, { signal });
  // An unhealthy service answers 503 with a body that says why.
  if (!answer.ok && path !== "/health") throw await refusal(answer);
  return answer.json().catch(() => { throw new Refused(`${path}: ${answer.status} ${answer.statusText}`, answer.status); });
}

/** More than any server gives; its own cap then holds. */
const CSV_ROWS_MAX = 1_000_000_000;

function statement(sql, params, { signal, maxRows, timeoutMs = 15_000 } = {}, accept = "application/json") {
  const body = JSON.stringify({ sql, params, max_rows: maxRows, timeout_ms: timeoutMs });
  return ask("/v1/sql", { method: "POST", signal, body, headers: { "content-type": "application/json", accept } });
}

/** The whole answer: columns, rows as arrays, truncated, elapsed_ms. */
export async function sql(text, params = [], options = {}) {
  const answer = await statement(text, params, options);
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

/** The rows as objects. */
export async function rows(text, params = [], options = {}) {
  const answer = await sql(text, params, options);
  const names = answer.columns.map((column) => column.name);
  return answer.rows.map((row) => Object.fromEntries(row.map((cell, at) => [names[at], cell])));
}

/** The answer as a file, and whether rows were cut off. */
export async function csv(text, signal) {
  const answer = await statement(text, [], { signal, maxRows: CSV_ROWS_MAX, timeoutMs: undefined }, "text/csv");
  if (!answer.ok) throw await refusal(answer);
  return { file: await answer.blob(), truncated: answer.headers.get("x-stillwell-truncated") === "true" };
}

/** Repeats `work(signal)` every `every` ms after it ended; waits longer after failures, and not at all while hidden or paused. */
export function poll(work, every) {
  let timer = 0, controller = null, failures = 0;
  const pause = () => (typeof every === "function" ? every() : every);
  const task = {
    async run() {
      clearTimeout(timer);
      if (controller || (halted() && task.ran)) return;
      task.ran = true;
      const mine = (controller = new AbortController());
      const began = performance.now();
      try {
        await work(mine.signal);
        failures = 0;
      } catch (error) {
        if (error.name !== "AbortError") failures += 1;
        if (!(error instanceof Refused) && error.name !== "AbortError") console.error(error);
      }
      if (controller !== mine) return;
      controller = null;
      if (!tasks.has(task)) return;
      // A question that is hard to answer is asked less often.
      const took = performance.now() - began;
      const wait = Math.min(30_000, Math.max(took * 3, pause() * 2 ** Math.min(failures, 4)));
      timer = setTimeout(task.run, wait);
    },
    /** Drops what is under way and asks at once. */
    now() {
      controller?.abort();
      controller = null;
      task.ran = false;
      task.run();
    },
    stop() {
      tasks.delete(task);
      clearTimeout(timer);
      controller?.abort();
      controller = null;
    },
  };
  tasks.add(task);
  queueMicrotask(task.run);
  return task;
}

const halted = () => paused || document.hidden;

export const isPaused = () => paused;

export function setPaused(on) {
  paused = on;
  if (!on) for (const task of tasks) task.run();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const task of tasks) task.run();
});
