// The page: which view is shown, the header, and what has to be said above everything.

import { $, text, attr } from "./dom.js";
import { isPaused, now, setPaused } from "./api.js";
import { plant, onChange, start } from "./plant.js";
import { clock, date, isUtc, keep, setUtc, stamp } from "./format.js";
import * as tiles from "./tiles.js";
import * as machines from "./machines.js";
import * as machine from "./machine.js";
import * as anomalies from "./anomalies.js";
import * as pipeline from "./pipeline.js";
import * as sql from "./console.js";

const VIEWS = ["overview", "machine", "anomalies", "pipeline", "sql"];
const STALE_MS = 60_000;
let heard = null;

/** The view and its query that the address names; an address that means nothing is the overview. */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view, ...rest] = path.split("/");
  let name = "";
  try {
    name = decodeURIComponent(rest.join("/"));
  } catch {
    name = rest.join("/");
  }
  return { view: VIEWS.includes(view) ? view : "overview", name, query: new URLSearchParams(query) };
}

function route() {
  const { view, name, query } = place();
  for (const one of VIEWS) $(`view-${one}`).hidden = one !== view;
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.dataset.view === view || (view === "machine" && link.dataset.view === "overview");
    attr(link, "aria-current", here ? "page" : null);
  }
  if (view === "machine") machine.open(name, query);
  else machine.close();
  if (view === "sql") sql.open(query);
  scrollTo(0, 0);
  updateAll();
}

function updateAll() {
  tiles.update();
  machines.update();
  anomalies.update();
  pipeline.update();
  machine.update();
}

function header() {
  const at = now();
  text($("clock"), `${clock(at)} ${isUtc() ? "UTC" : "local"}`);
  const error = plant.errors.health ?? plant.errors.pipeline;
  const state = error ? "failed" : plant.health?.status ?? "starting";
  const words = { ok: "healthy", starting: "starting", waiting: "waiting", failed: "failed" };
  attr($("health"), "data-health", state);
  text($("health-text"), error ? "no answer" : plant.health ? words[state] ?? state : "connecting");
  const paused = isPaused();
  attr($("live"), "aria-pressed", paused);
  text($("live").querySelector("span"), paused ? "Paused" : "Live");
  const badge = $("nav-open");
  badge.hidden = !plant.open;
  text(badge, String(plant.open ?? ""));
  document.title = plant.open ? `(${plant.open}) Stillwell` : "Stillwell";
  banner(at);
}

/** The one thing that a reader must know before believing the rest. */
function banner(at) {
  const said = say(at);
  const node = $("banner");
  node.hidden = !said;
  if (!said) return;
  attr(node, "data-tone", said.tone);
  text(node, said.text);
}

function say(at) {
  const gone = plant.errors.pipeline;
  if (gone) return { tone: "bad", text: `${gone.message}.${heard ? ` What is shown is of ${stamp(heard, at)}.` : ""}` };
  const parts = Object.entries(plant.health?.parts ?? {}).filter(([, part]) => part.state === "waiting" || part.state === "failed");
  if (parts.length) {
    const [name, part] = parts.find(([, one]) => one.state === "failed") ?? parts[0];
    const more = parts.length > 1 ? ` (and ${parts.length - 1} more, see Pipeline)` : "";
    return { tone: part.state === "failed" ? "bad" : "warn", text: `${name} is ${part.state}: ${part.detail || "no reason given"}${more}` };
  }
  if (isPaused()) return { tone: "calm", text: `Paused at ${heard ? stamp(heard, at) : "start"}. Nothing is updated until you resume.` };
  const moved = Math.max(...(plant.pipeline?.partitions ?? []).map((one) => (one.visible_updated_us ?? 0) / 1000), 0);
  if (moved > 0 && at - moved > STALE_MS) return { tone: "calm", text: `No new data since ${stamp(moved, at)}.` };
  return null;
}

let told = null;

/** Says new anomalies to those who do not see the page. */
function announce() {
  const open = (plant.anomalies ?? []).filter((one) => one.until === null);
  const fresh = told && open.filter((one) => !told.has(one.id));
  told = new Set(open.map((one) => one.id));
  if (fresh?.length) text($("said"), `New anomaly: ${fresh.map((one) => one.machine).join(", ")}`);
}

function controls() {
  $("live").addEventListener("click", () => { setPaused(!isPaused()); header(); });
  $("clock").addEventListener("click", () => { setUtc(!isUtc()); header(); updateAll(); dispatchEvent(new Event("resize")); });
  $("clock").title = `Switch between UTC and local time (${date(Date.now())})`;
  $("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme !== "dark";
    document.documentElement.dataset.theme = keep("theme", dark ? "dark" : "light");
    dispatchEvent(new Event("resize"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    if (keep("theme") === null) document.documentElement.dataset.theme = event.matches ? "dark" : "light";
  });
}

[tiles, machines, anomalies, machine, pipeline, sql].forEach((part) => part.init());
controls();
onChange((what) => {
  if (what === "pipeline" && plant.pipeline && !plant.errors.pipeline) heard = now();
  if (what === "anomalies") announce();
  if (what === "pipeline") { tiles.update(); pipeline.update(); }
  else updateAll();
  header();
});
addEventListener("hashchange", route);
route();
header();
setInterval(header, 1000);
start();
