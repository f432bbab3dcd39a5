// One machine: its sensors, and the chart of those that are chosen.

import { h, text, attr, $ } from "./dom.js";
import { now, poll, rows } from "./api.js";
import { plant, STATES } from "./plant.js";
import { millis, rfc3339, span as spanText, stamp, ago, count, date } from "./format.js";
import { scoreBar, share } from "./machines.js";
import { Chart } from "./chart.js";
import { attach } from "./gestures.js";
import { series, beginning, statement, stepFor } from "./series.js";
import { eventList } from "./anomalies.js";
import { tooltip } from "./tooltip.js";
import { sensorTable } from "./sensors.js";

const MINUTE = 60_000;
const SPANS = [["15m", 15 * MINUTE], ["1h", 60 * MINUTE], ["6h", 360 * MINUTE], ["24h", 1440 * MINUTE], ["7d", 10_080 * MINUTE], ["all", null]];
const RECENT_MS = 5 * MINUTE;
const SENSORS_MAX = 4;
const EVENTS_SHOWN = 8;

let view, chart, tip, sensors, events, meter, at = null, polls = [];

export function init() {
  meter = scoreBar();
  view = {
    title: h("h1"), state: h("span", { class: "state" }), facts: h("p", { class: "facts" }), label: h("p", { class: "resolution" }), problem: h("p", { class: "problem", role: "alert", hidden: true }),
    spans: SPANS.map(([name]) => h("button", { type: "button", text: name, on: { click: () => choose(name) } })),
    follow: h("button", { type: "button", class: "follow", on: { click: follow } }, h("i", { class: "dot", "aria-hidden": "true" }), h("span", { text: "Follow" })),
    canvas: h("canvas", { tabindex: 0, role: "img", class: "chart", "aria-describedby": "chart-help chart-summary" }),
    summary: h("p", { id: "chart-summary", class: "hidden", "aria-live": "off" }), sql: h("a", { class: "more", text: "SQL", title: "The readings of this range as SQL" }), busy: h("span", { class: "busy", hidden: true, text: "loading" }),
  };
  tip = h("div", { class: "tip", hidden: true });
  sensors = sensorTable(pick, SENSORS_MAX);
  events = eventList("of-machine", "Anomalies", EVENTS_SHOWN, false);
  $("view-machine").append(
    h("div", { class: "machine-head" }, h("a", { class: "back", href: "#/", text: "Machines" }), view.title, view.state, meter.node, view.facts),
    h("div", { class: "machine-body" },
      h("div", {}, h("section", { class: "panel sensors", "aria-label": "Sensors" }, sensors.node), events.node),
      h("section", { class: "panel chart-panel", "aria-label": "Chart" },
        h("div", { class: "head" }, h("div", { class: "ranges", role: "group", "aria-label": "Range" }, view.spans), view.follow, view.busy, view.label, view.sql), view.problem,
        h("div", { class: "chart-box" }, view.canvas, tip), view.summary,
        h("p", { id: "chart-help", class: "help", text: "Drag to zoom in, shift-drag or arrows to move, wheel or + and - to zoom, double-click or Esc to go back." }))));
  chart = new Chart(view.canvas);
  attach(chart, { range: setRange, reset, hover });
  addEventListener("resize", () => at && draw());
}

/** Opens what a link names; `query` holds sensor, from, to, span. */
export function open(name, query) {
  close();
  const from = millis(query.get("from")), to = millis(query.get("to"));
  at = { name, chosen: query.getAll("sensor").slice(0, SENSORS_MAX), range: null, span: query.get("span"), live: false, latest: null, begin: null, data: null, home: null, back: null };
  if (from !== null && to !== null && from < to) at.range = { from, to };
  text(view.title, name || "(no name)");
  view.facts.replaceChildren();
  attr(view.canvas, "aria-label", `Chart of ${name}`);
  view.problem.hidden = true;
  sensors.clear();
  draw();
  polls = [poll(readLatest, 2000), poll(readChart, () => (at.live ? Math.min(30_000, Math.max(2000, stepFor(length())[0] / 4)) : 15_000))];
}

export function close() {
  polls.forEach((one) => one.stop());
  polls = [];
  at = null;
}

const newest = () => at.latest.reduce((last, one) => Math.max(last, one.time), -Infinity);
const recent = () => now() - newest() < RECENT_MS;
const length = () => (at.range ? at.range.to - at.range.from : 15 * MINUTE);

async function readLatest(signal) {
  const mine = at;
  const found = await rows("SELECT sensor, kind, unit, time, value, text, quality, score FROM latest WHERE machine = $1", [mine.name], { signal }).catch(fail);
  if (mine !== at) return;
  const first = mine.latest === null;
  mine.latest = found.map((row) => ({ ...row, time: millis(row.time) }));
  if (mine.chosen.length === 0 && mine.latest.length > 0) {
    const open = await rows("SELECT sensors FROM anomalies WHERE machine = $1 AND until IS NULL ORDER BY time DESC LIMIT 1", [mine.name], { signal }).catch(() => []);
    if (mine !== at) return;
    if (mine.chosen.length === 0) mine.chosen = [suggested(open[0]?.sensors[0])];
  }
  update();
  if (first) begin();
}

/** What to look at first: the sensor that an open anomaly blames most, else the first with numbers. */
function suggested(open) {
  const names = at.latest.filter((one) => one.value !== null).map((one) => one.sensor).sort();
  return at.latest.some((one) => one.sensor === open) ? open : names[0] ?? at.latest[0].sensor;
}

function begin() {
  if (at.latest.length === 0) return draw();
  if (at.range) at.home = { ...at.range };
  else choose(at.span ?? "15m", true);
  polls[1].now();
}

/** A span that ends now, or where the data ends if nothing came for a while. */
async function choose(name, quiet = false) {
  const mine = at;
  const found = SPANS.find(([known]) => known === name) ?? SPANS[0];
  mine.span = found[0];
  if (found[1] === null && mine.begin === null) mine.begin = await beginning(mine.name).catch(() => null);
  if (mine !== at || !mine.latest?.length) return;
  mine.live = recent();
  mine.home = mine.back = null;
  slide();
  changed(!quiet);
}

function slide() {
  const length = SPANS.find(([name]) => name === at.span)?.[1] ?? null;
  const end = at.live ? now() : newest() + 1;
  const start = length === null ? Math.min(at.begin ?? end - MINUTE, end - 1000) : end - length;
  const room = length === null ? (end - start) * 0.02 : 0;
  at.range = { from: start - room, to: at.live ? end : end + Math.max(room, (end - start) * 0.02) };
}

function setRange(from, to) {
  if (!at?.range) return;
  at.back = at.span ?? at.back;
  at.live = false;
  at.span = null;
  at.range = { from, to: Math.max(to, from + 1) };
  changed(true);
}

function reset() {
  if (!at?.latest) return;
  if (at.home) {
    at.range = { ...at.home };
    changed(true);
  } else choose(at.back ?? at.span ?? "15m");
}

function follow() {
  if (at.live) {
    at.live = false;
    at.back = at.span ?? at.back;
    at.span = null;
    return changed(true);
  }
  const size = length();
  choose(SPANS.find(([, ms]) => ms !== null && ms >= size)?.[0] ?? "7d");
}

function pick(name, more) {
  const has = at.chosen.includes(name);
  if (!more) at.chosen = [name];
  else if (has && at.chosen.length > 1) at.chosen = at.chosen.filter((one) => one !== name);
  else if (!has) at.chosen = [...at.chosen.slice(-(SENSORS_MAX - 1)), name];
  changed(true);
  update();
}

let later = 0;

/** Draws at once with what is there, and asks for the rest when the movement rests. */
function changed(links) {
  if (links) {
    const query = at.chosen.map((name) => `sensor=${encodeURIComponent(name)}`);
    if (at.span) query.push(`span=${at.span}`);
    else query.push(`from=${rfc3339(at.range.from)}`, `to=${rfc3339(at.range.to)}`);
    history.replaceState(null, "", `#/machine/${encodeURIComponent(at.name)}?${query.join("&")}`);
  }
  draw();
  clearTimeout(later);
  const mine = at;
  later = setTimeout(() => mine === at && polls[1].now(), 120);
}

async function readChart(signal) {
  const mine = at;
  if (!mine.range || !mine.latest?.length) return;
  if (mine.live) slide();
  const { from, to } = mine.range;
  const wait = setTimeout(() => { view.busy.hidden = false; }, 300);
  try {
    const data = await series(mine.name, mine.chosen, from, to, newest(), signal);
    if (mine !== at || signal.aborted) return;
    mine.data = data;
    view.problem.hidden = true;
    draw();
  } catch (error) {
    if (mine === at) fail(error);
  } finally {
    clearTimeout(wait);
    if (mine === at) view.busy.hidden = true;
  }
}

function fail(error) {
  if (error.name !== "AbortError") {
    view.problem.hidden = false;
    text(view.problem, error.message);
  }
  throw error;
}

const machineOf = () => plant.machines?.find((one) => one.name === at.name);

export function update() {
  if (!at) return;
  const one = machineOf();
  attr(view.state, "data-state", one?.state ?? "unscored");
  text(view.state, one ? STATES[one.state] : at.latest?.length === 0 ? "Unknown machine" : "…");
  meter.node.hidden = !one || share(one) < 0;
  if (one) meter.show(one);
  const facts = [];
  if (at.latest?.length) facts.push(`${count(at.latest.length)} sensors`, `last reading ${recent() ? ago(newest(), now()) : stamp(newest(), now())}`);
  if (one?.model) facts.push(one.model.model ? `model ${one.model.model.slice(0, 8)} of ${date(millis(one.model.since))}` : `commissioning, ${count(one.model.rows)} rows so far`);
  if (at.latest?.length === 0) facts.push("No reading of this machine has arrived.");
  text(view.facts, facts.join("  ·  "));
  if (at.latest) sensors.show(at.latest, at.chosen);
  const own = plant.anomalies?.filter((one) => one.machine === at.name);
  events.show(own ?? [], own ? "None of this machine." : "Reading the anomalies…");
}

function draw() {
  for (const button of view.spans) attr(button, "aria-pressed", button.textContent === at.span);
  attr(view.follow, "aria-pressed", at.live);
  view.follow.hidden = !at.latest?.length || !recent();
  const panels = at.chosen.map((sensor) => {
    const known = at.latest?.find((one) => one.sensor === sensor);
    return { sensor, unit: known?.unit ?? "", textual: known?.value === null && known.text !== null, points: at.data?.lines.get(sensor) ?? [] };
  });
  const height = `${Chart.height(panels.length, innerWidth < 700, innerHeight)}px`;
  if (view.canvas.style.height !== height) view.canvas.style.height = height;
  view.sql.hidden = !at.range;
  if (at.range) attr(view.sql, "href", `#/sql?q=${encodeURIComponent(statement(at.name, at.chosen, at.range))}`);
  text(view.label, at.data ? `${at.data.label} · ${spanText(length())}` : "");
  const model = machineOf()?.model;
  const end = at.latest?.length ? (recent() ? now() : newest()) : null;
  chart.show(at.range ?? { from: now() - 15 * MINUTE, to: now() }, panels, at.data, model?.model ? model.threshold : null, end);
  text(view.summary, panels.map(summary).join(" "));
}

/** The chart in words, for those who cannot see it. */
function summary({ sensor, unit, points }) {
  const seen = points.filter((p) => p.v !== null);
  if (seen.length === 0) return `${sensor}: no readings in this range.`;
  return `${sensor}: from ${Math.min(...seen.map((p) => p.min))} to ${Math.max(...seen.map((p) => p.max))} ${unit}, last ${seen.at(-1).v}.`;
}

function hover(time, x, y) {
  chart.cursor = time;
  chart.redraw();
  tooltip(tip, chart, time, x, y);
}
