// The anomalies, newest first: a short list on the overview, the long one in its own view.

import { h, text, attr, sync, $ } from "./dom.js";
import { plant, ANOMALIES_MAX } from "./plant.js";
import { ago, count, rfc3339, span, stamp, value } from "./format.js";
import { now } from "./api.js";
import { link } from "./machines.js";

const RECENT = 9;
let recent, body, table, empty, find, foot, onlyOpen;

export function init() {
  recent = eventList("recent", "Anomalies", RECENT);
  $("recent").replaceWith(recent.node);

  find = h("input", { type: "search", placeholder: "Machine or sensor", "aria-label": "Find by machine or sensor", autocomplete: "off", on: { input: update } });
  onlyOpen = h("input", { type: "checkbox", on: { change: update } });
  body = h("tbody");
  const th = (name, kind) => h("th", { scope: "col", class: kind, text: name });
  table = h("table", { class: "anomalies" }, h("thead", {}, h("tr", {}, th("Began"), th("Machine"), th("Sensors, largest share first"), th("Peak / threshold", "num"), th("Lasted", "num"))), body);
  empty = h("p", { class: "empty" });
  foot = h("p", { class: "foot", hidden: true });
  $("view-anomalies").append(h("section", { class: "panel" },
    h("div", { class: "head" }, h("h1", { text: "Anomalies" }), h("label", { class: "check" }, onlyOpen, " Only ongoing"), find), table, empty, foot));
}

/** A short list of events in a panel of its own. */
export function eventList(id, title, most, named = true) {
  const list = h("ol", { class: "events" });
  const none = h("p", { class: "empty" });
  const head = h("div", { class: "head" }, h("h2", { id: `${id}-title`, text: title }), h("a", { class: "more", href: "#/anomalies", text: "All" }));
  return {
    node: h("section", { class: "panel", id, "aria-labelledby": `${id}-title` }, head, list, none),
    show(events, nothing) {
      sync(list, events.slice(0, most), (one) => one.id, (one) => entry(one, named), (node, one) => node.show(one));
      none.hidden = events.length > 0;
      text(none, nothing);
    },
  };
}

/** The chart at that moment, with room on both sides. */
function moment(one) {
  const end = one.until ?? Math.min(now(), one.time + 600_000);
  const room = Math.max(120_000, (end - one.time) * 0.75);
  const sensors = one.sensors.slice(0, 3).map((name) => `sensor=${encodeURIComponent(name)}`);
  return link(one.machine, `?${[...sensors, `from=${rfc3339(Math.floor(one.time - room))}`, `to=${rfc3339(Math.ceil(end + room))}`].join("&")}`);
}

const lasted = (one) => (one.until === null ? "ongoing" : span(one.until - one.time));

/** Words for the sensors of an event. */
export function sensorsOf(one, most = 4) {
  const left = one.sensors.length - most;
  return one.sensors.slice(0, most).join(", ") + (left > 0 ? ` and ${left} more` : "");
}

export function update() {
  const all = plant.anomalies;
  const problem = plant.errors.anomalies;
  const nothing = all ? "No anomaly so far." : problem ? `Anomalies cannot be read: ${problem.message}` : "Reading the anomalies…";
  // What goes on needs eyes first, however long ago it began.
  recent.show([...(all ?? [])].sort((a, b) => (b.until === null) - (a.until === null)), nothing);
  if ($("view-anomalies").hidden) return;
  const wanted = find.value.trim().toLowerCase();
  const shown = (all ?? []).filter((one) => (!onlyOpen.checked || one.until === null)
    && (!wanted || one.machine.toLowerCase().includes(wanted) || one.sensors.some((name) => name.toLowerCase().includes(wanted))));
  sync(body, shown, (one) => one.id, line, (node, one) => node.show(one));
  table.hidden = shown.length === 0;
  empty.hidden = shown.length > 0;
  text(empty, all?.length ? "None matches." : nothing);
  foot.hidden = (all?.length ?? 0) < ANOMALIES_MAX;
  text(foot, `The newest ${count(ANOMALIES_MAX)}; all of them are in the SQL table anomalies.`);
}

function entry(one, named) {
  const link = h("a", { href: moment(one) });
  const when = h("span", { class: "when" });
  const peak = h("span", { class: "peak" });
  const node = h("li", {}, link);
  link.append(h("strong", { text: named ? one.machine : stamp(one.time, now()) }), when, h("span", { class: "what", text: sensorsOf(one, 2), title: one.sensors.join(", ") }), peak);
  node.show = (one) => {
    attr(node, "data-open", one.until === null ? "" : null);
    attr(link, "href", moment(one));
    text(when, one.until === null ? `ongoing, ${span(Math.max(0, now() - one.time))}` : named ? ago(one.time, now()) : lasted(one));
    text(peak, `${value(one.peak_score / one.threshold, 2)}× threshold${!named || one.until === null ? "" : `, ${lasted(one)}`}`);
  };
  return node;
}

function line(one) {
  const began = h("td", { class: "time" });
  const peak = h("td", { class: "num", "data-label": "Peak" });
  const length = h("td", { class: "num", "data-label": "Lasted" });
  const link = h("a", { text: one.machine });
  const node = h("tr", {}, began, h("th", { scope: "row" }, link), h("td", { class: "what", text: sensorsOf(one, 6), title: one.sensors.join(", ") }), peak, length);
  node.show = (one) => {
    attr(node, "data-open", one.until === null ? "" : null);
    attr(link, "href", moment(one));
    text(began, stamp(one.time, now()));
    text(peak, `${value(one.peak_score, 3)} / ${value(one.threshold, 3)}`);
    text(length, lasted(one));
    attr(length, "title", one.until === null ? null : `until ${stamp(one.until, now())}`);
  };
  return node;
}
