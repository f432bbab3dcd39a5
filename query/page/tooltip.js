// What lies under the pointer, in words.

import { h } from "./dom.js";
import { nearest } from "./trace.js";
import { clock, date, span, value, withUnit, count } from "./format.js";
import { sensorsOf } from "./anomalies.js";

/** Shows `tip` beside the pointer, or hides it where there is no time. */
export function tooltip(tip, chart, time, x, y) {
  tip.hidden = time === null || !chart.data;
  if (tip.hidden) return;
  const { data, panels, threshold } = chart;
  const reach = chart.reachOfPoint();
  const points = panels.map((panel) => nearest(panel.points, time, reach));
  const seen = points.find(Boolean);
  const lines = [h("p", { class: "tip-time", text: when(seen?.t ?? time, data, Boolean(seen)) })];
  panels.forEach((panel, at) => lines.push(line(panel.sensor, points[at], panel.unit, data.raw)));
  const score = nearest(data.scores, time, Math.max(reach, data.step * 0.75));
  if (score) lines.push(row("Score", `${value(score.v, 3)}${threshold ? ` of ${value(threshold, 3)}` : ""}`, score.v > threshold ? "bad" : null));
  for (const mark of data.marks) {
    const [from, to] = chart.reach(mark);
    const room = reach / 2;
    if (time >= from - room && time <= to + room) lines.push(anomaly(mark));
  }
  tip.replaceChildren(...lines);
  const box = tip.parentElement.getBoundingClientRect();
  const width = tip.offsetWidth, height = tip.offsetHeight;
  const left = x + 16 + width > box.width ? x - 16 - width : x + 16;
  tip.style.left = `${Math.max(4, Math.min(left, box.width - width - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(y - height / 2, box.height - height - 4))}px`;
}

function when(t, { step, raw }, seen) {
  if (!seen) return `${date(t)} ${clock(t)}`;
  if (raw) return `${date(t)} ${clock(t, true)}`;
  const from = t - step / 2;
  return step >= 86_400_000 ? `${date(from)}, ${span(step)}` : `${date(from)} ${clock(from)}, ${span(step)}`;
}

function line(name, point, unit, raw) {
  if (!point) return row(name, "no reading", "none");
  if (point.v === null) return row(name, point.text ?? "no value");
  const spread = raw ? "" : `${value(point.min)} to ${value(point.max)}, ${count(point.n)} readings`;
  return row(name, withUnit(point.v, unit), null, [spread, point.bad ? (raw ? "doubtful quality" : `${count(point.bad)} of doubtful quality`) : ""].filter(Boolean).join(", "));
}

function row(name, figure, tone = null, note = "") {
  return h("p", { class: "tip-row", "data-tone": tone }, h("span", { text: name }), h("b", { text: figure }), note && h("small", { text: note }));
}

function anomaly(mark) {
  return h("div", { class: "tip-mark" },
    h("b", { text: mark.until === null ? "Anomaly, ongoing" : `Anomaly, ${span(mark.until - mark.time)}` }),
    h("span", { text: `peak ${value(mark.peak_score, 3)}, threshold ${value(mark.threshold, 3)}` }),
    h("span", { text: sensorsOf(mark, 3) }),
    h("small", { text: `model ${mark.model.slice(0, 8)}` }));
}
