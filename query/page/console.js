// SQL by hand: a statement, its answer as a table, or as a file.

import { h, text, sync, $ } from "./dom.js";
import { csv, rows, sql } from "./api.js";
import { count, span } from "./format.js";

const SHOWN_MAX = 1000;
const EXAMPLES = [
  ["Newest values", "SELECT machine, sensor, value, unit, time\nFROM latest\nORDER BY machine, sensor"],
  ["Last hour by minute", "SELECT machine, kind, time, count, avg, min, max, bad, late\nFROM fleet_1m\nWHERE time >= now() - INTERVAL '1 hour'\nORDER BY time DESC, machine, kind"],
  ["Anomalies by machine", "SELECT machine, count(*) AS events, max(peak_score / threshold) AS worst, max(time) AS latest\nFROM anomalies\nGROUP BY machine\nORDER BY events DESC"],
  ["Readings per machine", "SELECT machine, count(*) AS readings, min(time) AS first, max(time) AS last\nFROM readings\nGROUP BY machine\nORDER BY readings DESC"],
  ["Dead letters", "SELECT topic, \"partition\", \"offset\", error_class, error\nFROM dead_letters\nORDER BY kafka_time DESC\nLIMIT 100"],
];
const NUMBERS = new Set(["bigint", "integer", "smallint", "double", "real", "numeric"]);

let area, run, save, status, error, result, tables, under = null;

export function init() {
  area = h("textarea", { id: "statement", rows: 7, spellcheck: "false", autocomplete: "off", autocapitalize: "off", "aria-describedby": "sql-error", on: { keydown: keys } });
  area.value = EXAMPLES[0][1];
  run = h("button", { type: "button", class: "primary", on: { click: toggle } }, "Run");
  save = h("button", { type: "button", text: "Download CSV", on: { click: download } });
  status = h("span", { class: "status", role: "status" });
  error = h("pre", { class: "sql-error", id: "sql-error", role: "alert", hidden: true });
  result = h("div", { class: "result", tabindex: 0, role: "region", "aria-label": "Result", hidden: true });
  tables = h("div", { class: "tables" });
  const examples = EXAMPLES.map(([name, statement]) => h("button", { type: "button", class: "chip", text: name, on: { click: () => { area.value = statement; execute(); } } }));
  $("view-sql").append(h("div", { class: "sql-body" },
    h("section", { class: "panel" },
      h("div", { class: "head" }, h("h1", { text: "SQL" }), h("div", { class: "chips", role: "group", "aria-label": "Examples" }, examples)),
      h("label", { class: "hidden", for: "statement", text: "Statement" }), area,
      h("div", { class: "row" }, run, save, h("span", { class: "hint", text: "Ctrl+Enter" }), status), error, result),
    h("aside", { class: "panel", "aria-label": "Tables" }, h("div", { class: "head" }, h("h2", { text: "Tables" })), tables,
      h("p", { class: "help", text: "The same SQL answers at POST /v1/sql as JSON, CSV or Arrow, and on the PostgreSQL port." }))));
}

/** Opens the view; `query` may hold q, a statement to start with. It is not run: a link must not cost anything by itself. */
export function open(query) {
  if (query.get("q")) area.value = query.get("q");
  if (!tables.hasChildNodes()) readTables();
}

function keys(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    execute();
  }
}

function toggle() {
  if (under) under.abort();
  else execute();
}

/** Runs `work(signal)` as the one statement under way; the button then stops it. */
async function alone(work) {
  under?.abort();
  const mine = (under = new AbortController());
  text(run, "Stop");
  text(status, "running…");
  error.hidden = true;
  try {
    await work(mine.signal);
  } catch (problem) {
    if (mine === under) text(status, problem.name === "AbortError" ? "stopped" : "");
    if (problem.name !== "AbortError") showError(problem);
  } finally {
    if (mine === under) {
      under = null;
      text(run, "Run");
    }
  }
}

function execute() {
  const statement = area.value;
  history.replaceState(null, "", `#/sql?q=${encodeURIComponent(statement)}`);
  return alone(async (signal) => {
    const answer = await sql(statement, [], { signal, maxRows: SHOWN_MAX, timeoutMs: undefined });
    const more = answer.truncated ? `the first ${count(answer.row_count)} rows; download CSV for more` : `${count(answer.row_count)} ${answer.row_count === 1 ? "row" : "rows"}`;
    text(status, `${more}, ${span(answer.elapsed_ms)}`);
    show(answer);
  });
}

function download() {
  return alone(async (signal) => {
    const { file, truncated } = await csv(area.value, signal);
    const link = h("a", { href: URL.createObjectURL(file), download: "stillwell.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    text(status, truncated ? "downloaded, but rows were cut off: ask for less at once" : "downloaded");
  });
}

function show(answer) {
  const right = answer.columns.map((column) => (NUMBERS.has(column.type) ? "num" : null));
  const head = answer.columns.map((column, at) => h("th", { scope: "col", class: right[at] }, column.name, h("small", { text: column.type })));
  const body = answer.rows.map((row) => h("tr", {}, row.map((cell, at) => h("td", { class: cell === null ? "null" : right[at], text: plain(cell) }))));
  result.hidden = false;
  result.scrollTop = 0;
  result.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

const plain = (cell) => (cell === null ? "null" : typeof cell === "object" ? JSON.stringify(cell) : String(cell));

function showError(problem) {
  result.hidden = true;
  error.hidden = false;
  const { line, column } = problem.position ?? {};
  const shown = line ? area.value.split("\n")[line - 1] : undefined;
  const place = shown === undefined ? "" : `\n\n${String(line).padStart(3)} | ${shown}\n    | ${" ".repeat(Math.max(0, column - 1))}^`;
  text(error, `${problem.message}${place}`);
  if (shown === undefined) return;
  const start = area.value.split("\n").slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0) + column - 1;
  area.focus();
  area.setSelectionRange(start, start + (/^\w+/.exec(area.value.slice(start))?.[0].length ?? 1));
}

async function readTables() {
  const found = await rows("SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema <> 'information_schema' ORDER BY table_name, ordinal_position").catch(() => []);
  const names = [...new Set(found.map((row) => row.table_name))];
  sync(tables, names, (name) => name, (name) => h("details", {}, h("summary", { text: name }),
    h("ul", {}, found.filter((row) => row.table_name === name).map((row) => h("li", {}, h("button", { type: "button", text: row.column_name, on: { click: () => insert(row.column_name) } }), h("small", { text: row.data_type }))))), () => {});
}

function insert(name) {
  area.setRangeText(/^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name}"`, area.selectionStart, area.selectionEnd, "end");
  area.focus();
}
