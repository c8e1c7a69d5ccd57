/**
 * The extension: while a node denoises, the whole clip as predicted so far plays on it, with a
 * button that ends the run there. With a MODEL of our loaders core's samplers play it too, without
 * the button, in place of core's picture of the first frame. The server hears that this browser
 * plays clips (others get ComfyUI's own preview), and the view is on the node for as long as it runs
 * and the workflow that was queued is the one that is open.
 */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { ClipView } from "./clip_view.js";
import { addView, loadStyle, make } from "./dom_view.js";
import { isQueuedHere } from "./queued_here.js";

const WIDGET = "clip_preview";
const views = new WeakMap(); // of nodes
// {id, node, view, height, before, grown}: the node that runs, the view on it and its height, the
// node's own height before that came, and what the node grew by
let shown = null;
let told = null; // the client id under which the server knows us

app.registerExtension({
  name: "PatchDiT.ClipPreview",
  setup() {
    loadStyle();
    const href = new URL("../css/clip_preview.css", import.meta.url).href;
    document.head.append(make("link", "", { rel: "stylesheet", href }));
    api.addEventListener("patchdit.preview", ({ detail }) => show(detail));
    api.addEventListener("executing", ({ detail }) => shown && shown.id !== String(detail) && hide());
    for (const end of ["execution_success", "execution_error", "execution_interrupted"])
      api.addEventListener(end, hide);
    api.addEventListener("reconnected", () => {
      hide(); // a run that still goes on shows itself again
      told = null;
      tell();
    });
    api.addEventListener("status", tell);
    tell();
  },
});

// ComfyUI draws its picture from setup on, so this listens before it does.
api.addEventListener("b_preview_with_metadata", keepClip);

/** Say that clips play here: at the start, and again where the server was started anew. */
async function tell() {
  const id = api.clientId;
  if (!id || id === told) return;
  told = id;
  const { watching } = await post("/patchdit/watch", { client_id: id });
  if (!watching && told === id) told = null;
}

/** The host's answer; {} where it refuses or is not there. */
async function post(route, body) {
  const headers = { "Content-Type": "application/json" };
  try {
    const answer = await api.fetchApi(route, { method: "POST", headers, body: JSON.stringify(body) });
    return answer.ok ? await answer.json() : {};
  } catch {
    return {};
  }
}

function show(message) {
  const id = String(message.node);
  const node = isQueuedHere(message.prompt_id) ? nodeOf(id) : null;
  if (shown && shown.node !== node) hide();
  if (!node) return;
  if (!shown) begin(id, node);
  shown.id = id;
  shown.view.show(message, () => post("/patchdit/stop", { prompt_id: message.prompt_id, node_id: id }));
  shown.view.stop.hidden = message.stops === false;
  fit();
}

/** Leave out ComfyUI's picture, of the first frame alone, on a node whose whole clip plays. */
function keepClip(event) {
  if (shown?.view.picture && shown.id === String(event.detail.nodeId)) event.stopImmediatePropagation();
}

function begin(id, node) {
  if (!views.has(node)) {
    const view = new ClipView(node);
    addView(node, WIDGET, view);
    views.set(node, view);
    saveWithoutView(node);
  }
  shown = { id, node, view: views.get(node), height: null, before: node.size[1], grown: 0 };
  setHidden(node, false);
}

/** Make room for the view, whose height changes with the clip's first picture. */
function fit() {
  const { node, view } = shown;
  if (view.height() === shown.height) return;
  shown.height = view.height();
  grow(node, Math.max(node.computeSize()[1] - ownHeight(node), 0));
}

function hide() {
  if (!shown) return;
  const { node, view } = shown;
  view.end();
  setHidden(node, true);
  // where it has gone meanwhile, the Vue renderer would resize another node of the same id
  if (node.graph?.getNodeById(node.id) === node) grow(node, 0);
  shown = null;
}

/** Let a node be this much higher than it is without the view. */
function grow(node, by) {
  const height = ownHeight(node) + by;
  shown.grown = by;
  node.setSize([node.size[0], height]);
  node.setDirtyCanvas?.(true, true);
}

/**
 * A node's height without the view, with what somebody dragged it by meanwhile: the Vue renderer,
 * which writes down what it measured, does not tell that from a drag.
 */
function ownHeight(node) {
  if (shown?.node !== node) return node.size[1];
  return LiteGraph.vueNodesMode ? shown.before : node.size[1] - shown.grown;
}

/** A workflow that is saved in the run, or left for another, has the node as it is without the view. */
function saveWithoutView(node) {
  const { onSerialize } = node;
  node.onSerialize = function (saved, ...rest) {
    onSerialize?.call(this, saved, ...rest);
    saved.size = [saved.size[0], ownHeight(node)];
  };
}

/** In the Vue renderer the element alone: not every version looks at a widget's `hidden` again. */
function setHidden(node, hidden) {
  const widget = node.widgets.find((one) => one.name === WIDGET);
  widget.hidden = widget.options.hidden = hidden && !LiteGraph.vueNodesMode;
  views.get(node).element.hidden = hidden;
  node.widgets = [...node.widgets]; // the Vue renderer looks at widgets anew when the list is another
}

/** The node of an execution id such as 12, or 5:12 in a subgraph: there, or what stands for it. */
function nodeOf(id) {
  let graph = app.rootGraph ?? app.graph;
  let found = null;
  for (const part of id.split(":")) {
    const node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part));
    if (!node) return found;
    found = node;
    if (graph === app.canvas.graph) return node;
    graph = node.subgraph;
  }
  return found;
}
