// Elements without markup strings: names in the data may be hostile, so text only ever becomes text nodes.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `props` are attributes, `text`, `class`, `on` (listeners). */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Sets text where it differs: untouched nodes keep selections and cost no layout. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function attr(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Brings the children of `parent` in line with `items`, keeping a node per key so that focus and hover survive. */
export function sync(parent, items, key, create, update) {
  const had = (parent.keyed ??= new Map());
  const keep = new Set();
  let at = parent.firstChild;
  for (const item of items) {
    const id = key(item);
    if (keep.has(id)) continue;
    keep.add(id);
    let node = had.get(id);
    if (!node) had.set(id, (node = create(item)));
    update(node, item);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  for (const [id, node] of had) {
    if (keep.has(id)) continue;
    had.delete(id);
    node.remove();
  }
}

export const $ = (id) => document.getElementById(id);
