// The chart: one panel per sensor over a common time axis, the score below, anomalies across.

import { valueTicks, tickLabel, timeTicks } from "./scale.js";
import { trace, states, nearest } from "./trace.js";
import { date, value } from "./format.js";

const LEFT = 62, RIGHT = 14, TOP = 20, AXIS = 26, GAP = 24, SCORE = 84;
const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

export class Chart {
  constructor(canvas) {
    this.canvas = canvas;
    this.range = { from: 0, to: 1 };
    this.data = null;
    this.threshold = null;
    this.now = null;
    /** Where the pointer is, and what is being selected: times. */
    this.cursor = null;
    this.selection = null;
    this.panels = [];
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  /** `panels` are {sensor, unit, points}. */
  show(range, panels, data, threshold, now) {
    Object.assign(this, { range, panels, data, threshold, now });
    this.redraw();
  }

  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  /** Fills the screen below the header where there is room, and scrolls where there is not. */
  static height(panels, narrow, screen) {
    const each = panels <= 1 ? (narrow ? 230 : 320) : panels === 2 ? 210 : 165;
    return Math.max(TOP + Math.max(1, panels) * (each + GAP) + SCORE + AXIS, narrow ? 0 : Math.min(screen - 236, 900));
  }

  get plot() {
    return { left: LEFT, right: Math.max(LEFT + 10, this.width - RIGHT) };
  }

  x(t) {
    const { left, right } = this.plot;
    return left + ((t - this.range.from) / (this.range.to - this.range.from)) * (right - left);
  }

  timeAt(x) {
    const { left, right } = this.plot;
    return this.range.from + ((x - left) / (right - left)) * (this.range.to - this.range.from);
  }

  draw() {
    const { canvas } = this;
    const ratio = Math.min(3, devicePixelRatio || 1);
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    if (!this.width || !this.height) return;
    const [w, hgt] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (canvas.width !== w || canvas.height !== hgt) Object.assign(canvas, { width: w, height: hgt });
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, this.width, this.height);
    ctx.font = FONT;
    this.ctx = ctx;
    this.colour = colour;
    const bottom = this.height - AXIS;
    const boxes = this.boxes(bottom);
    this.timeAxis(boxes, bottom);
    this.drawMarks(boxes, bottom);
    this.panels.forEach((panel, at) => this.drawPanel(panel, boxes[at]));
    this.drawScore(boxes.at(-1));
    if (this.now > this.range.from && this.now < this.range.to) this.vertical(this.x(this.now), TOP, bottom, colour("ink-3"), [1, 3]);
    this.drawCursor(boxes, bottom);
  }

  boxes(bottom) {
    const n = Math.max(1, this.panels.length);
    const each = (bottom - TOP - SCORE - GAP * n) / n;
    const boxes = Array.from({ length: n }, (_, at) => ({ top: TOP + at * (each + GAP) + 18, bottom: TOP + at * (each + GAP) + each + 6 }));
    boxes.push({ top: bottom - SCORE + 20, bottom });
    return boxes;
  }

  timeAxis(boxes, bottom) {
    const { ctx, colour } = this;
    const { left, right } = this.plot;
    ctx.textAlign = "center";
    ctx.textBaseline = "top";
    // The ticks say hours; which day it is stands at their left.
    const day = this.range.to - this.range.from < 20 * 86_400_000 ? date(this.range.from) : "";
    ctx.fillStyle = colour("ink-2");
    ctx.fillText(day, 32, bottom + 8);
    let free = day ? 64 : -Infinity;
    for (const tick of timeTicks(this.range.from, this.range.to, (right - left) / 88)) {
      const x = Math.round(this.x(tick.t)) + 0.5;
      ctx.strokeStyle = colour(tick.strong ? "grid-2" : "grid");
      ctx.lineWidth = 1;
      ctx.beginPath();
      for (const box of boxes) {
        ctx.moveTo(x, box.top);
        ctx.lineTo(x, box.bottom);
      }
      ctx.stroke();
      const half = ctx.measureText(tick.label).width / 2;
      const at = Math.min(Math.max(x, half + 2), this.width - half - 2);
      if (at - half < free + 8) continue;
      free = at + half;
      ctx.fillStyle = colour(tick.strong ? "ink" : "ink-2");
      ctx.fillText(tick.label, at, bottom + 8);
    }
  }

  /** How an anomaly lies in time; one that goes on reaches to now or the data's end. */
  reach(mark) {
    return [mark.time, mark.until ?? Math.max(mark.time, this.now ?? mark.time)];
  }

  drawMarks(boxes, bottom) {
    const { ctx, colour } = this;
    const { left, right } = this.plot;
    for (const mark of this.data?.marks ?? []) {
      const [from, to] = this.reach(mark);
      const a = Math.max(left, this.x(from)), b = Math.min(right, this.x(to));
      if (b < left || a > right) continue;
      const width = Math.max(2, b - a);
      ctx.fillStyle = colour("mark");
      ctx.fillRect(a, TOP, width, bottom - TOP);
      ctx.fillStyle = colour("bad");
      ctx.fillRect(a, TOP - 6, width, 4);
      if (this.x(from) < left) continue;
      ctx.beginPath();
      ctx.moveTo(a - 5, TOP - 14);
      ctx.lineTo(a + 5, TOP - 14);
      ctx.lineTo(a, TOP - 5);
      ctx.fill();
      this.vertical(a, TOP - 4, bottom, colour("bad"), [], 0.55);
    }
  }

  drawPanel(panel, box) {
    const seen = panel.points.filter((p) => p.v !== null && p.t >= this.range.from - this.data.step && p.t <= this.range.to + this.data.step);
    this.title(panel.sensor, panel.unit, box, this.colour("line"));
    if (seen.length === 0) {
      if (panel.points.some((p) => p.text)) return this.clip(box, () => states(this.ctx, panel.points, (t) => this.x(t), box, this.colour));
      return this.words(!this.data ? "" : panel.textual && !this.data.raw ? "a text: zoom in to 10 minutes or less to see it" : "no readings in this range", box);
    }
    let low = Math.min(...seen.map((p) => p.min)), high = Math.max(...seen.map((p) => p.max));
    const room = high > low ? (high - low) * 0.08 : Math.max(Math.abs(high) * 0.02, 1e-3);
    [low, high] = [low - room, high + room];
    const y = (v) => box.bottom - ((v - low) / (high - low)) * (box.bottom - box.top);
    this.valueAxis(low, high, y, box);
    panel.y = y;
    this.clip(box, () => trace(this.ctx, panel.points, this.data, (t) => this.x(t), y, this.colour));
  }

  drawScore(box) {
    const { ctx, colour, threshold } = this;
    const scores = this.data?.scores ?? [];
    const top = Math.max(...scores.map((p) => p.v), (threshold ?? 0) * 1.25) * 1.05 || 1;
    // Far beyond the threshold, a straight scale would press all that matters onto the axis.
    const bent = threshold > 0 && top > threshold * 3;
    const y = (v) => box.bottom - (bent ? Math.sqrt(Math.max(0, v) / top) : v / top) * (box.bottom - box.top);
    this.title("Anomaly score", threshold ? `threshold ${value(threshold, 3)}${bent ? ", square-root scale" : ""}` : "", box, colour("score"));
    if (scores.length === 0) return this.words(this.data ? "no score in this range" : "", box);
    this.valueAxis(0, top, y, box, 2);
    this.clip(box, () => {
      trace(ctx, scores, { step: this.data.step, raw: false, floor: y(0) }, (t) => this.x(t), y, (name) => colour(name === "line" ? "score" : name === "band" ? "score-band" : name));
      if (threshold) this.horizontal(y(threshold), colour("bad"), [5, 4]);
    });
  }

  drawCursor(boxes, bottom) {
    const { ctx, colour, selection, cursor } = this;
    if (selection) {
      const [a, b] = [this.x(selection[0]), this.x(selection[1])].sort((one, two) => one - two);
      ctx.fillStyle = colour("select");
      ctx.fillRect(a, TOP, b - a, bottom - TOP);
      for (const x of [a, b]) this.vertical(x, TOP, bottom, colour("accent"), []);
    } else if (cursor !== null) {
      this.vertical(this.x(cursor), TOP, bottom, colour("ink-2"), []);
      this.panels.forEach((panel) => {
        const point = nearest(panel.points, cursor, this.reachOfPoint());
        if (!point || point.v === null || !panel.y) return;
        ctx.beginPath();
        ctx.arc(this.x(point.t), panel.y(point.v), 4, 0, 7);
        ctx.fillStyle = colour("line");
        ctx.fill();
        ctx.lineWidth = 2;
        ctx.strokeStyle = colour("surface");
        ctx.stroke();
      });
    }
  }

  /** How far from the pointer a point still counts as under it. */
  reachOfPoint() {
    const px = (this.range.to - this.range.from) / (this.plot.right - this.plot.left);
    return Math.max(px * 12, this.data?.raw ? 0 : (this.data?.step ?? 0) * 0.75);
  }

  valueAxis(low, high, y, box, most = Math.max(3, Math.floor((box.bottom - box.top) / 44))) {
    const { ctx, colour } = this;
    const { ticks, step } = valueTicks(low, high, most);
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    for (const tick of ticks) {
      this.horizontal(y(tick), colour("grid"), []);
      ctx.fillStyle = colour("ink-2");
      ctx.fillText(tickLabel(tick, step), LEFT - 8, y(tick));
    }
  }

  title(name, extra, box, colour) {
    const { ctx } = this;
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    ctx.fillStyle = colour;
    ctx.fillRect(LEFT, box.top - 11, 10, 3);
    ctx.fillStyle = this.colour("ink");
    ctx.font = `600 ${FONT}`;
    ctx.fillText(name, LEFT + 15, box.top - 6);
    const width = ctx.measureText(name).width;
    ctx.font = FONT;
    ctx.fillStyle = this.colour("ink-2");
    if (extra) ctx.fillText(extra, LEFT + 22 + width, box.top - 6);
  }

  words(text, box) {
    const { ctx } = this;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.fillStyle = this.colour("ink-2");
    ctx.fillText(text, (this.plot.left + this.plot.right) / 2, (box.top + box.bottom) / 2);
  }

  clip(box, draw) {
    const { ctx } = this;
    ctx.save();
    ctx.beginPath();
    ctx.rect(this.plot.left, box.top - 2, this.plot.right - this.plot.left, box.bottom - box.top + 4);
    ctx.clip();
    draw();
    ctx.restore();
  }

  vertical(x, top, bottom, colour, dash, alpha = 1) {
    this.rule([Math.round(x) + 0.5, top, Math.round(x) + 0.5, bottom], colour, dash, alpha);
  }

  horizontal(y, colour, dash) {
    this.rule([this.plot.left, Math.round(y) + 0.5, this.plot.right, Math.round(y) + 0.5], colour, dash, 1);
  }

  rule([x1, y1, x2, y2], colour, dash, alpha) {
    const { ctx } = this;
    ctx.save();
    ctx.globalAlpha = alpha;
    ctx.setLineDash(dash);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(x1, y1);
    ctx.lineTo(x2, y2);
    ctx.stroke();
    ctx.restore();
  }
}
