// Zooming and moving a chart by mouse, touch and keys. The chart is asked, never told what to fetch.

const DRAG_MIN_PX = 5;
const SPAN_MIN_MS = 20;
const SPAN_MAX_MS = 200 * 365 * 86_400_000;

/** `act` has range(from, to), reset() and hover(time or null, x, y). */
export function attach(chart, act) {
  const { canvas } = chart;
  const fingers = new Map();
  let drag = null, pinch = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const span = () => chart.range.to - chart.range.from;

  function zoom(factor, centre = (chart.range.from + chart.range.to) / 2) {
    const size = Math.min(SPAN_MAX_MS, Math.max(SPAN_MIN_MS, span() * factor));
    const share = (centre - chart.range.from) / span();
    act.range(centre - size * share, centre + size * (1 - share));
  }

  function move(ms) {
    act.range(chart.range.from + ms, chart.range.to + ms);
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    const p = at(event);
    fingers.set(event.pointerId, p);
    if (fingers.size === 2) {
      drag = null;
      chart.selection = null;
      const [a, b] = [...fingers.values()];
      pinch = { apart: Math.max(20, Math.abs(a.x - b.x)), centre: chart.timeAt((a.x + b.x) / 2), span: span() };
      return;
    }
    const pans = event.shiftKey || event.pointerType === "touch";
    drag = { x: p.x, pans, from: chart.range.from, to: chart.range.to, t: chart.timeAt(p.x), moved: false };
  });

  canvas.addEventListener("pointermove", (event) => {
    const p = at(event);
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, p);
    if (pinch && fingers.size === 2) {
      const [a, b] = [...fingers.values()];
      const size = Math.max(SPAN_MIN_MS, (pinch.span * pinch.apart) / Math.max(20, Math.abs(a.x - b.x)));
      const share = ((a.x + b.x) / 2 - chart.plot.left) / (chart.plot.right - chart.plot.left);
      act.range(pinch.centre - size * share, pinch.centre + size * (1 - share));
      return;
    }
    if (drag && Math.abs(p.x - drag.x) > DRAG_MIN_PX) drag.moved = true;
    if (drag?.moved && drag.pans) {
      const ms = ((drag.x - p.x) / (chart.plot.right - chart.plot.left)) * (drag.to - drag.from);
      act.range(drag.from + ms, drag.to + ms);
      act.hover(null);
    } else if (drag?.moved) {
      const edge = Math.min(Math.max(p.x, chart.plot.left), chart.plot.right);
      chart.selection = [drag.t, chart.timeAt(edge)];
      act.hover(null);
    } else act.hover(p.x >= chart.plot.left && p.x <= chart.plot.right ? chart.timeAt(p.x) : null, p.x, p.y);
    chart.redraw();
  });

  const release = (event) => {
    fingers.delete(event.pointerId);
    if (fingers.size < 2) pinch = null;
    // A tap has no hovering; it puts the cross-hair where it was.
    if (drag && !drag.moved && event.pointerType === "touch" && event.type === "pointerup") act.hover(drag.t, drag.x, at(event).y);
    const chosen = chart.selection;
    chart.selection = null;
    drag = null;
    if (chosen && event.type === "pointerup") act.range(...(chosen[0] < chosen[1] ? chosen : [chosen[1], chosen[0]]));
    chart.redraw();
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", (event) => { if (!drag && event.pointerType !== "touch") act.hover(null); });
  canvas.addEventListener("dblclick", () => act.reset());

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(((event.deltaX || event.deltaY) * lines * span()) / 1000);
    else zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY * lines)) / 250), chart.timeAt(at(event).x));
  }, { passive: false });

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowLeft: () => move(-span() * 0.2), ArrowRight: () => move(span() * 0.2), ArrowUp: () => zoom(0.6), ArrowDown: () => zoom(1 / 0.6),
      "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6),
      Escape: () => { if (drag) { drag = null; chart.selection = null; chart.redraw(); } else act.reset(); },
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
}
