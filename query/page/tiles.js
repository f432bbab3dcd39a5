// The row of figures on top of the overview.

import { h, svg, text, attr, $ } from "./dom.js";
import { plant, lag } from "./plant.js";
import { count, short, span } from "./format.js";
import { now } from "./api.js";

const SPARK_MAX_MS = 300_000, SPARK_MIN_MS = 30_000;
let tiles = null;

function tile(name, { href, extra, wide } = {}) {
  const figure = h("span", { class: "figure", text: "–" });
  const note = h("span", { class: "note" });
  const node = h(href ? "a" : "div", { class: `tile${wide ? " wide" : ""}`, href }, h("span", { class: "label", text: name }), figure, note, extra);
  return { node, figure, note };
}

export function init() {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const spark = svg("svg", { class: "spark", viewBox: "0 0 300 44", preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  tiles = {
    rate: tile("Readings per second", { extra: spark, wide: true }),
    views: tile("Views behind", { href: "#/pipeline" }),
    archive: tile("Archive behind", { href: "#/pipeline" }),
    total: tile("Readings archived", { href: "#/sql" }),
    open: tile("Open anomalies", { href: "#/anomalies" }),
    machines: tile("Machines"),
  };
  Object.assign(tiles, { area, line });
  $("tiles").append(...["rate", "views", "archive", "total", "open", "machines"].map((name) => tiles[name].node));
}

export function update() {
  const { rates, pipeline, machines } = plant;
  const rate = rates.at(-1)?.rate;
  text(tiles.rate.figure, rate === undefined ? "–" : short(rate));
  const peak = rates.reduce((top, one) => Math.max(top, one.rate), 0);
  text(tiles.rate.note, peak > 0 && rates.length > 1 ? `peak ${short(peak)} in ${span(rates.at(-1).at - rates[0].at)}` : rates.length > 1 ? "nothing arrives" : "measuring");
  drawSpark(rates, peak);
  if (pipeline) {
    const { visible, durable } = lag(pipeline);
    behind(tiles.views, visible, pipeline.views_error);
    behind(tiles.archive, durable, pipeline.archive_error);
    // Where the topic's end is not known, the archive still says when it last grew.
    if (!durable && pipeline.archive_written_us) text(tiles.archive.note, `last commit ${span(Math.max(0, now() - pipeline.archive_written_us / 1000))} ago`);
  }
  text(tiles.total.figure, plant.archived === null ? "–" : plant.archived < 1e7 ? count(plant.archived) : short(plant.archived));
  attr(tiles.total.node, "title", plant.archived === null ? null : `${count(plant.archived)} readings`);
  text(tiles.total.note, plant.deadLetters === null ? "" : plant.deadLetters === 0 ? "no dead letters" : plant.deadLetters === 1 ? "1 dead letter" : `${count(plant.deadLetters)} dead letters`);
  text(tiles.open.figure, count(plant.open));
  attr(tiles.open.node, "data-tone", plant.open > 0 ? "bad" : null);
  const latest = plant.anomalies?.[0];
  text(tiles.open.note, latest ? `latest ${span(Math.max(0, now() - latest.time))} ago` : plant.anomalies ? "none so far" : "");
  text(tiles.machines.figure, machines ? count(machines.length) : "–");
  const sensors = machines?.reduce((sum, one) => sum + one.sensors, 0) ?? 0;
  const silent = machines?.filter((one) => one.state === "silent").length ?? 0;
  text(tiles.machines.note, machines ? `${count(sensors)} sensors${silent ? `, ${silent} silent` : ""}` : "");
}

function behind(tile, lag, error) {
  const bad = Boolean(error) || (lag && lag.records > 0 && lag.ms > 30_000);
  attr(tile.node, "data-tone", bad ? "warn" : null);
  attr(tile.node, "title", error ?? null);
  text(tile.figure, error ? "unknown" : lag ? (lag.records === 0 ? "0" : short(lag.records)) : "–");
  text(tile.note, error ? "does not answer" : lag ? (lag.records === 0 ? "records, up to date" : `records, ${span(lag.ms)}`) : "nothing received yet");
}

function drawSpark(rates, peak) {
  if (rates.length < 2 || peak <= 0) {
    attr(tiles.line, "d", "");
    attr(tiles.area, "d", "");
    return;
  }
  const end = rates.at(-1).at;
  // A page just opened has little to show; it gets wider bit by bit.
  const width = Math.min(SPARK_MAX_MS, Math.max(SPARK_MIN_MS, end - rates[0].at));
  const points = rates.map(({ at, rate }) => `${(300 - ((end - at) / width) * 300).toFixed(1)},${(42 - (rate / peak) * 38).toFixed(1)}`);
  attr(tiles.line, "d", `M${points.join("L")}`);
  attr(tiles.area, "d", `M${points[0].split(",")[0]},44L${points.join("L")}L300,44Z`);
}
