/**
 * The extension: while a node denoises, the whole clip as predicted so far plays on it, with a
 * button that ends the run there. With a MODEL of our loaders core's samplers play it too, without
 * the button, in place of core's picture of the first frame. The server hears that this browser
 * plays clips (others get ComfyUI's own preview), and the view is on the node for as long as it runs.
 */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { ClipView } from "./clip_view.js";
import { addView, loadStyle, make } from "./dom_view.js";

const WIDGET = "clip_preview";
const views = new WeakMap(); // of nodes
let shown = null; // {id, node, view, before, grown}: the node that runs, its size without and the view's height
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
    api.addEventListener("reconnected", () => ((told = null), tell()));
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

async function post(route, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await api.fetchApi(route, { method: "POST", headers, body: JSON.stringify(body) });
  return answer.ok ? answer.json() : {};
}

function show(message) {
  const id = String(message.node);
  const node = nodeOf(id);
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
  const before = [...node.size];
  if (!views.has(node)) {
    const view = new ClipView(node);
    addView(node, WIDGET, view);
    views.set(node, view);
  }
  shown = { id, node, view: views.get(node), before, grown: null };
  setHidden(node, false);
}

/** Make room for the view, whose height changes with the clip's first picture. */
function fit() {
  const { node, view, before } = shown;
  const needed = node.computeSize()[1];
  if (view.height() === shown.grown) return;
  shown.grown = view.height();
  node.setSize([node.size[0], Math.max(before[1], needed)]);
  node.setDirtyCanvas?.(true, true);
}

function hide() {
  if (!shown) return;
  const { node, view, before } = shown;
  shown = null;
  view.end();
  setHidden(node, true);
  node.setSize([node.size[0], before[1]]);
  node.setDirtyCanvas?.(true, true);
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
