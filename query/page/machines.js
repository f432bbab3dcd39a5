// The machines, for a handful or for hundreds: search, states as filters, columns to sort by.

import { h, text, attr, sync, $ } from "./dom.js";
import { plant, STATES } from "./plant.js";
import { ago, count, keep, value, stamp } from "./format.js";
import { now } from "./api.js";

const RANK = Object.keys(STATES);
const SHOWN_MAX = 400;
let find, chips, body, foot, table, empty;
let filter = null;
let order = keep("machines") ?? "state";

const SORTS = {
  state: (a, b) => RANK.indexOf(a.state) - RANK.indexOf(b.state) || share(b) - share(a),
  name: () => 0,
  score: (a, b) => share(b) - share(a),
  sensors: (a, b) => b.sensors - a.sensors,
  age: (a, b) => b.time - a.time,
};
const byName = new Intl.Collator("en", { numeric: true }).compare;

/** The score against its threshold; -1 sorts machines without a model last. */
export const share = (one) => (one.model?.threshold > 0 && one.score !== null && one.model.model !== "" ? one.score / one.model.threshold : -1);

export const link = (name, rest = "") => `#/machine/${encodeURIComponent(name)}${rest}`;

export function init() {
  find = h("input", { type: "search", placeholder: "Find a machine", "aria-label": "Find a machine", autocomplete: "off", spellcheck: "false", on: { input: update } });
  chips = h("div", { class: "chips", role: "group", "aria-label": "Only machines in this state" });
  const column = (key, name, kind) => h("th", { scope: "col", class: kind, "data-sort": key },
    h("button", { type: "button", text: name, on: { click: () => { order = keep("machines", key); update(); } } }));
  body = h("tbody");
  table = h("table", { class: "machines" }, h("thead", {}, h("tr", {},
    column("name", "Machine"), column("state", "State"), column("score", "Score / threshold"), column("sensors", "Sensors", "num"), column("age", "Last reading", "num"))), body);
  foot = h("p", { class: "foot", hidden: true });
  empty = h("div", { class: "empty", hidden: true });
  $("machines").append(h("div", { class: "head" }, h("h2", { id: "machines-title", text: "Machines" }), chips, find), table, empty, foot);
}

export function update() {
  if ($("view-overview").hidden) return;
  const all = plant.machines;
  if (!all) {
    blank(plant.errors.machines ? [`Machines cannot be read: ${plant.errors.machines.message}`] : ["Reading the machines…"]);
    return;
  }
  if (all.length === 0) return blank(howToSend());
  const wanted = find.value.trim().toLowerCase();
  const named = all.filter((one) => !wanted || one.name.toLowerCase().includes(wanted));
  drawChips(named);
  const shown = named.filter((one) => !filter || one.state === filter).sort((a, b) => SORTS[order]?.(a, b) || byName(a.name, b.name));
  for (const th of table.querySelectorAll("th")) attr(th, "aria-sort", th.dataset.sort === order ? (order === "name" ? "ascending" : "descending") : null);
  table.hidden = shown.length === 0;
  empty.hidden = shown.length > 0;
  if (shown.length === 0) empty.replaceChildren(h("p", { text: "No machine matches." }));
  sync(body, shown.slice(0, SHOWN_MAX), (one) => one.name, create, (row, one) => row.show(one));
  foot.hidden = shown.length <= SHOWN_MAX;
  text(foot, `${count(shown.length - SHOWN_MAX)} more; search to narrow the list`);
}

function blank(content) {
  table.hidden = true;
  empty.hidden = false;
  chips.replaceChildren();
  chips.keyed = undefined;
  empty.replaceChildren(...content.map((one) => (typeof one === "string" ? h("p", { text: one }) : one)));
}

function howToSend() {
  return [
    h("h3", { text: "No data yet" }),
    "Readings show up here within seconds after they arrive in Kafka. To see it move:",
    h("pre", { text: "stillwell generate                  # a simulated plant\nstillwell replay recordings/        # CSV recordings" }),
  ];
}

function drawChips(machines) {
  const present = RANK.filter((state) => machines.some((one) => one.state === state) || state === filter);
  const items = [{ state: null, n: machines.length }, ...present.map((state) => ({ state, n: machines.filter((one) => one.state === state).length }))];
  sync(chips, items, (item) => item.state ?? "", (item) => {
    const n = h("b");
    const chip = h("button", { type: "button", class: "chip", "data-state": item.state, on: { click: () => { filter = filter === item.state ? null : item.state; update(); } } },
      item.state && h("i", { class: "dot", "aria-hidden": "true" }), h("span", { text: item.state ? STATES[item.state] : "All" }), n);
    chip.n = n;
    return chip;
  }, (chip, item) => {
    text(chip.n, count(item.n));
    attr(chip, "aria-pressed", filter === item.state);
  });
}

function create(one) {
  const state = h("span", { class: "state" });
  const detail = h("span", { class: "detail" });
  const meter = scoreBar();
  const sensors = h("td", { class: "num", "data-label": "Sensors" });
  const age = h("td", { class: "num", "data-label": "Last reading" });
  const row = h("tr", {},
    h("th", { scope: "row" }, h("a", { href: link(one.name), text: one.name || "(no name)", title: one.name })),
    h("td", {}, state, detail), h("td", { class: "meter-cell" }, meter.node), sensors, age);
  row.show = (one) => {
    attr(row, "data-state", one.state);
    attr(state, "data-state", one.state);
    text(state, STATES[one.state]);
    text(detail, one.state === "commissioning" ? `${count(one.model.rows)} rows` : one.open > 1 ? `${one.open} open` : "");
    meter.show(one);
    text(sensors, count(one.sensors));
    text(age, ago(one.time, now()));
    attr(age, "title", stamp(one.time, now()));
  };
  return row;
}

/** A bar of the score; the tick is the threshold, at two thirds of its width. */
export function scoreBar() {
  const fill = h("i", { class: "fill" });
  const label = h("span", { class: "meter-text" });
  const bar = h("span", { class: "meter", "aria-hidden": "true" }, fill, h("i", { class: "tick" }));
  const node = h("span", { class: "score" }, bar, label);
  return {
    node,
    show(one) {
      const part = share(one);
      bar.hidden = part < 0;
      fill.style.width = `${Math.max(0, Math.min(1, (part * 2) / 3)) * 100}%`;
      attr(node, "data-over", part >= 1 ? "" : null);
      text(label, part < 0 ? "–" : `${value(one.score, 3)} / ${value(one.model.threshold, 3)}`);
      attr(node, "title", part < 0 ? "no score yet" : `score ${value(one.score)}, threshold ${value(one.model.threshold)}`);
    },
  };
}
