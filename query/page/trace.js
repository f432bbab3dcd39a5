// A line of points with its band. What is missing stays empty: nothing is drawn across a missing window.

const DOTS_MIN_PX = 7;

/** Runs of points without a gap between them. */
function runs(points, gap) {
  const found = [];
  let run = [];
  for (const point of points) {
    if (point.v === null || (run.length && point.t - run.at(-1).t > gap)) {
      if (run.length) found.push(run);
      run = [];
    }
    if (point.v !== null) run.push(point);
  }
  if (run.length) found.push(run);
  return found;
}

/** Beyond this, two neighbours are apart: windows must touch, raw readings keep near their usual distance. */
function gapOf(points, { step, raw }) {
  if (!raw) return step * 1.5;
  const apart = points.slice(1).map((point, at) => point.t - points[at].t).filter((ms) => ms > 0).sort((a, b) => a - b);
  return apart.length ? Math.max(apart[(apart.length - 1) >> 1] * 5, 50) : Infinity;
}

export function trace(ctx, points, shape, x, y, colour) {
  const all = runs(points, gapOf(points, shape));
  ctx.lineJoin = "round";
  ctx.lineCap = "round";
  ctx.fillStyle = colour("band");
  for (const run of all) {
    if (shape.raw) break;
    ctx.beginPath();
    run.forEach((p, at) => ctx[at ? "lineTo" : "moveTo"](x(p.t), y(p.max ?? p.v)));
    for (const p of run.toReversed?.() ?? [...run].reverse()) ctx.lineTo(x(p.t), shape.floor ?? y(p.min));
    ctx.fill();
  }
  ctx.strokeStyle = ctx.fillStyle = colour("line");
  ctx.lineWidth = 1.6;
  for (const run of all) {
    ctx.beginPath();
    if (run.length === 1) {
      alone(ctx, run[0], shape, x, y);
      continue;
    }
    run.forEach((p, at) => ctx[at ? "lineTo" : "moveTo"](x(p.t), y(p.v)));
    ctx.stroke();
  }
  dots(ctx, points, shape, x, y, colour);
}

/** A window between two gaps is as wide as it lasts. */
function alone(ctx, p, shape, x, y) {
  const half = shape.raw ? 0 : Math.max(1.5, (x(p.t + shape.step / 2) - x(p.t)) * 0.8);
  if (half > 0) {
    ctx.moveTo(x(p.t) - half, y(p.v));
    ctx.lineTo(x(p.t) + half, y(p.v));
    ctx.stroke();
  } else {
    ctx.arc(x(p.t), y(p.v), 2, 0, 7);
    ctx.fill();
  }
}

/** Raw readings show where they are when there is room; readings of doubtful quality always do. */
function dots(ctx, points, shape, x, y, colour) {
  if (!shape.raw || points.length === 0) return;
  const roomy = Math.abs(x(points.at(-1).t) - x(points[0].t)) / points.length > DOTS_MIN_PX;
  for (const p of points) {
    if (p.v === null || (!roomy && !p.bad)) continue;
    ctx.fillStyle = colour(p.bad ? "warn" : "line");
    ctx.beginPath();
    ctx.arc(x(p.t), y(p.v), p.bad ? 3 : 2.2, 0, 7);
    ctx.fill();
  }
}

/** Texts over time: a block from each change to the next, with the text where it fits. */
export function states(ctx, points, x, box, colour) {
  const changes = points.filter((p, at) => p.text !== null && (at === 0 || p.text !== points[at - 1].text));
  const middle = (box.top + box.bottom) / 2;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  changes.forEach((p, at) => {
    const from = x(p.t), to = x(changes[at + 1]?.t ?? points.at(-1).t);
    ctx.fillStyle = colour("band");
    ctx.fillRect(from, middle - 14, Math.max(2, to - from - 1), 28);
    ctx.fillStyle = colour("line");
    ctx.fillRect(from, middle - 14, 2, 28);
    ctx.fillStyle = colour("ink");
    const room = (at + 1 < changes.length ? to : Infinity) - from - 12;
    if (ctx.measureText(p.text).width < room) ctx.fillText(p.text, from + 7, middle);
  });
}

/** The point nearest to `t`, if it is within `reach`. */
export function nearest(points, t, reach) {
  let low = 0, high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle].t < t) low = middle + 1;
    else high = middle;
  }
  const best = [points[low - 1], points[low]].filter(Boolean).sort((a, b) => Math.abs(a.t - t) - Math.abs(b.t - t))[0];
  return best && Math.abs(best.t - t) <= reach ? best : null;
}
