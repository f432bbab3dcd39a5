// The sensors of a machine with their last values.

import { h, text, attr, sync } from "./dom.js";
import { now } from "./api.js";
import { ago, stamp, value } from "./format.js";

const byName = new Intl.Collator("en", { numeric: true }).compare;
/** A sensor that is this far behind the others of its machine is worth a word. */
const LATE_MS = 60_000;

/** `pick(name, more)`: more adds to what is chosen, or takes away. */
export function sensorTable(pick, most) {
  const find = h("input", { type: "search", placeholder: "Find a sensor", "aria-label": "Find a sensor", autocomplete: "off" });
  const list = h("ul", { class: "sensor-list" });
  let last = null, newest = 0;
  const show = (latest, chosen) => {
    last = [latest, chosen];
    newest = latest.reduce((top, one) => Math.max(top, one.time), 0);
    find.hidden = latest.length < 12;
    const wanted = find.value.trim().toLowerCase();
    const shown = latest.filter((one) => !wanted || one.sensor.toLowerCase().includes(wanted)).sort((a, b) => byName(a.sensor, b.sensor));
    sync(list, shown, (one) => one.sensor, create, (node, one) => node.show(one, chosen));
  };
  find.addEventListener("input", () => last && show(...last));

  function create(one) {
    const box = h("input", { type: "checkbox", "aria-label": `Add ${one.sensor} to the chart`, title: `Compare up to ${most} sensors`, on: { change: () => pick(one.sensor, true) } });
    const number = h("b");
    const unit = h("span", { class: "unit" });
    const age = h("span", { class: "age" });
    const button = h("button", { type: "button", on: { click: (event) => pick(one.sensor, event.ctrlKey || event.metaKey || event.shiftKey) } },
      h("span", { class: "name", text: one.sensor, title: one.kind ? `${one.sensor} (${one.kind})` : one.sensor }), h("span", { class: "reading" }, number, unit), age);
    const node = h("li", {}, box, button);
    node.show = (one, chosen) => {
      box.checked = chosen.includes(one.sensor);
      attr(button, "aria-pressed", box.checked);
      attr(node, "data-chosen", box.checked ? "" : null);
      attr(node, "data-bad", one.quality >>> 30 ? "" : null);
      text(number, one.value !== null ? value(one.value) : one.text ?? "–");
      text(unit, one.value !== null && one.unit ? `\u202f${one.unit}` : "");
      const late = newest - one.time > LATE_MS;
      const doubt = one.quality >>> 30 ? "doubtful quality" : "";
      text(age, [doubt, late ? ago(one.time, now()) : ""].filter(Boolean).join(", "));
      attr(age, "title", stamp(one.time, now()));
    };
    return node;
  }

  return {
    node: h("div", {}, h("div", { class: "head" }, h("h2", { text: "Sensors" }), find), list),
    show,
    clear() {
      last = null;
      find.value = "";
      list.replaceChildren();
      list.keyed = undefined;
    },
  };
}
