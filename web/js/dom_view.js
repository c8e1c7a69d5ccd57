/**
 * Views that stand in a node as an extra widget. They hold nothing that the graph does not: they
 * are saved nowhere, and one clock shows them the graph as it is, whoever changed it.
 */

import { app } from "../../../scripts/app.js";

const LOOK_EVERY = 80; // milliseconds
const views = new Set();
let clock = null;

/**
 * Put a view `{element, height(), refresh(), end()}` below a node's widgets.
 *
 * It has to be the last one: ComfyUI saves widget values by their place in the list. The view is
 * refreshed for as long as its node is in the graph, and told by `end()`, if it has one, when the
 * node leaves it. Nodes that never enter one, such as clipboard copies, cost nothing.
 */
export function addView(node, name, view) {
  view.element.classList.add("patchdit-view");
  view.element.dataset.view = name;
  const widget = node.addDOMWidget(name, "PATCHDIT_VIEW", view.element, {
    serialize: false, // not in the prompt
    hideOnZoom: false,
    margin: 8,
    getValue: () => "",
    setValue: () => {},
    getMinHeight: () => view.height(),
    getMaxHeight: () => view.height(),
  });
  widget.serialize = false; // not in the workflow
  handPanningOn(view.element);
  const shown = { view, node, failed: false };
  const { onAdded, onRemoved } = node;
  node.onAdded = function (...args) {
    show(shown);
    return onAdded?.apply(this, args);
  };
  node.onRemoved = function (...args) {
    drop(shown);
    return onRemoved?.apply(this, args);
  };
  if (node.graph) show(shown);
}

function show(shown) {
  views.add(shown);
  clock ??= setInterval(look, LOOK_EVERY);
}

function drop(shown) {
  if (views.delete(shown)) shown.view.end?.();
}

function look() {
  for (const shown of views) {
    if (!isInGraph(shown.node)) drop(shown); // nobody tells the nodes of a subgraph that was closed
    else refresh(shown);
  }
  if (views.size) return;
  clearInterval(clock);
  clock = null;
}

/** What a view throws is said once, and holds none of the others up. */
function refresh(shown) {
  const { view, node } = shown;
  try {
    if (!view.element.isConnected) takePlace(view.element, node);
    if (view.element.isConnected) view.refresh();
  } catch (error) {
    if (!shown.failed) console.error(`PatchDiT: a view of ${node.type} failed:`, error);
    shown.failed = true;
  }
}

/** Whether a node is in the workflow that is open, in a subgraph of it or not. */
function isInGraph({ graph }) {
  const root = app.rootGraph ?? app.graph;
  return graph === root || (graph && root.subgraphs?.get(graph.id) === graph);
}

/** The Vue renderer keeps the element of a node in whose place undo put another of the same id. */
function takePlace(element, node) {
  if (!node.graph || node.graph !== app.canvas.graph) return;
  const place = `[data-node-id="${CSS.escape(String(node.id))}"] [data-view="${element.dataset.view}"]`;
  document.querySelector(place)?.replaceWith(element);
}

/** Let the wheel zoom and the middle button pan the canvas of the classic renderer from here too. */
function handPanningOn(element) {
  const inVueNode = () => element.closest("[data-node-id]") !== null;
  const hand = (event, method) => {
    if (!inVueNode()) app.canvas[method](event);
  };
  element.addEventListener("wheel", (event) => hand(event, "processMouseWheel"), { passive: true });
  element.addEventListener("pointerdown", (event) => {
    if (event.button === 1) hand(event, "processMouseDown");
  });
  element.addEventListener("pointermove", (event) => {
    if (event.buttons & 4) hand(event, "processMouseMove");
  });
  element.addEventListener("pointerup", (event) => {
    if (event.button === 1) hand(event, "processMouseUp");
  });
}

/** An element with a class, attributes and children. */
export function make(tag, className, attributes = {}, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Load the style sheet once, from beside the scripts. */
export function loadStyle() {
  const href = new URL("../css/patchdit.css", import.meta.url).href;
  if (!document.querySelector(`link[href="${href}"]`))
    document.head.append(make("link", "", { rel: "stylesheet", href }));
}
