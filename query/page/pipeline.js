// The pipeline: each partition's marks, dead letters, and what every part says of itself.

import { h, text, attr, sync, $ } from "./dom.js";
import { plant } from "./plant.js";
import { ago, count, short } from "./format.js";
import { now } from "./api.js";

const DEAD = "SELECT topic, \"partition\", \"offset\", kafka_time, error_class, error\nFROM dead_letters\nORDER BY kafka_time DESC\nLIMIT 100";

let body, table, empty, dead, deadLink, parts, problems, scaled;

export function init() {
  body = h("tbody");
  const th = (name, kind) => h("th", { scope: "col", class: kind, text: name });
  scaled = th("");
  table = h("table", { class: "partitions" }, h("thead", {}, h("tr", {},
    th("Partition"), th("Readings", "num"), th("End", "num"), th("Received", "num"), th("Visible", "num"), th("Durable", "num"), scaled, th("Behind", "num"), th("Moved", "num"))), body);
  empty = h("p", { class: "empty" });
  problems = h("div", { class: "problems" });
  dead = h("span");
  deadLink = h("a", { class: "more", href: `#/sql?q=${encodeURIComponent(DEAD)}`, text: "Look at them" });
  parts = h("ul", { class: "parts" });
  $("view-pipeline").append(
    h("section", { class: "panel" },
      h("div", { class: "head" }, h("h1", { text: "Pipeline" }),
        h("span", { class: "legend" }, key("received", "received"), key("visible", "visible in the views"), key("durable", "durable in the archive"))),
      problems, table, empty, h("p", { class: "dead" }, dead, " ", deadLink)),
    h("section", { class: "panel" },
      h("div", { class: "head" }, h("h2", { text: "Health" }), h("a", { class: "more", href: "/health", text: "/health" }), h("a", { class: "more", href: "/metrics", text: "/metrics" })),
      parts));
}

const key = (kind, name) => h("span", {}, h("i", { class: `swatch ${kind}` }), name);

export function update() {
  if ($("view-pipeline").hidden) return;
  const report = plant.pipeline;
  const list = report?.partitions ?? [];
  const messages = [report?.views_error && `Views: ${report.views_error}`, report?.archive_error && `Archive: ${report.archive_error}`].filter(Boolean);
  sync(problems, messages, (one) => one, (one) => h("p", { class: "problem", text: one }), () => {});
  // One scale for all bars, so that a partition that falls behind stands out.
  const behind = list.map((one) => Math.max(0, (one.end ?? 0) - Math.min(one.visible ?? one.end ?? 0, one.durable ?? one.end ?? 0)));
  const scale = Math.max(100, ...behind.map((n) => n * 1.25));
  text(scaled, `Of the last ${count(scale)} records`);
  sync(body, list, (one) => `${one.topic} ${one.partition}`, create, (row, one) => row.show(one, scale));
  table.hidden = list.length === 0;
  empty.hidden = list.length > 0;
  text(empty, !report ? (plant.errors.pipeline?.message ?? "Reading the marks…") : "No partition has data yet.");
  text(dead, plant.deadLetters === null ? "" : plant.deadLetters === 0 ? "No dead letters: every record could be read." : `${plant.deadLetters === 1 ? "1 dead letter" : `${count(plant.deadLetters)} dead letters`}: what could not be read is kept whole in dead_letters.`);
  attr(dead, "data-tone", plant.deadLetters > 0 ? "warn" : null);
  deadLink.hidden = !plant.deadLetters;
  drawParts();
}

function create(one) {
  const cells = Object.fromEntries(["readings", "end", "received", "visible", "durable", "behind", "moved"].map((name) => [name, h("td", { class: "num", "data-label": name })]));
  const bars = Object.fromEntries(["received", "visible", "durable"].map((name) => [name, h("i", { class: `fill ${name}` })]));
  const row = h("tr", {}, h("th", { scope: "row" }, h("span", { text: one.topic }), h("b", { text: ` ${one.partition}` })),
    cells.readings, cells.end, cells.received, cells.visible, cells.durable,
    h("td", { class: "track-cell" }, h("span", { class: "track", "aria-hidden": "true" }, Object.values(bars))), cells.behind, cells.moved);
  row.show = (one, scale) => {
    for (const name of ["readings", "end", "received", "visible", "durable"]) text(cells[name], name === "readings" ? short(one[name]) : count(one[name]));
    for (const [name, bar] of Object.entries(bars)) {
      const left = one.end === null || one[name] === null ? scale : Math.max(0, one.end - one[name]);
      bar.style.width = `${Math.max(0, 1 - left / scale) * 100}%`;
    }
    const left = (mark) => (one.end === null || one[mark] === null ? null : Math.max(0, one.end - one[mark]));
    text(cells.behind, `${count(left("visible"))} / ${count(left("durable"))}`);
    attr(cells.behind, "title", "records: views / archive");
    text(cells.moved, one.visible_updated_us === null ? "–" : ago(one.visible_updated_us / 1000, now()));
  };
  return row;
}

function drawParts() {
  const all = Object.entries(plant.health?.parts ?? {}).map(([name, part]) => ({ name, ...part }));
  // Lanes that are well are one line, not a page of them.
  const lane = /^(.+)\/([^/]+)\/\d+$/;
  const well = new Map();
  const shown = [];
  for (const part of all) {
    const match = part.state === "ok" ? lane.exec(part.name) : null;
    if (!match) shown.push(part);
    else well.set(`${match[1]}/${match[2]}`, (well.get(`${match[1]}/${match[2]}`) ?? 0) + 1);
  }
  for (const [name, n] of well) shown.push({ name: `${name}/…`, state: "ok", detail: `${n} partitions` });
  const worst = ["failed", "waiting", "starting", "ok"];
  shown.sort((a, b) => worst.indexOf(a.state) - worst.indexOf(b.state) || a.name.localeCompare(b.name));
  if (!plant.health && plant.errors.health) shown.push({ name: "health", state: "failed", detail: plant.errors.health.message });
  sync(parts, shown, (part) => part.name, (part) => {
    const state = h("span", { class: "word" });
    const detail = h("span", { class: "detail" });
    const node = h("li", {}, h("i", { class: "dot", "aria-hidden": "true" }), h("b", { text: part.name }), state, detail);
    node.show = (part) => {
      attr(node, "data-health", part.state);
      text(state, part.state);
      text(detail, part.detail);
    };
    return node;
  }, (node, part) => node.show(part));
}
