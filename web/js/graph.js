/** Reading and writing what a graph itself holds: ordinary widgets and links, nothing else. */

import { app } from "../../../scripts/app.js";

const MUTED = 2;
const BYPASSED = 4;
const REROUTES = new Set(["Reroute"]);

export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** The value of a widget; `fallback` where there is none or its value comes over a link. */
export function valueOf(node, name, fallback = undefined) {
  return isLinked(node, name) ? fallback : (widgetOf(node, name)?.value ?? fallback);
}

/** The number in a widget, within its own limits; null where it is linked, absent or no number. */
export function numberOf(node, name) {
  const value = valueOf(node, name);
  return Number.isFinite(value) ? within(widgetOf(node, name), value) : null;
}

/** The value of a widget as a text: a file may hold anything there. */
export function textOf(node, name) {
  const value = valueOf(node, name, "");
  return typeof value === "string" ? value : JSON.stringify(value);
}

export function isLinked(node, name) {
  const slot = slotOf(node, (input) => input.name === name);
  return slot >= 0 && node.isInputConnected(slot);
}

/** Whether somebody may change a widget by hand. */
export function isEditable(node, name) {
  return widgetOf(node, name) !== undefined && !isLinked(node, name);
}

/** Set a widget as if it had been typed in, within its own limits. */
export function write(node, name, value) {
  const widget = widgetOf(node, name);
  if (!widget || isLinked(node, name)) return;
  const kept = typeof value === "number" ? within(widget, value) : value;
  if (widget.value === kept) return;
  widget.value = kept;
  widget.callback?.(kept, app.canvas, node);
  widget.value = kept; // ComfyUI's own callback rounds numbers to the digits of their step
  node.setDirtyCanvas?.(true, true);
}

function within(widget, value) {
  const { min = -Infinity, max = Infinity } = widget.options ?? {};
  return Math.min(Math.max(value, min), max);
}

/**
 * The node that feeds an input, past reroutes, bypassed nodes and the edges of subgraphs. Null where
 * nothing will arrive, as from a muted node; a subgraph's own edge where it is used in several places.
 */
export function originOf(node, inputName) {
  let { graph } = node;
  let link = linkInto(node, slotOf(node, (input) => input.name === inputName));
  for (let steps = 0; link && steps < 100; steps++) {
    if (String(link.origin_id) === String(graph.inputNode?.id)) {
      const users = usersOf(graph);
      if (users.length !== 1) return graph.inputNode;
      [graph, link] = [users[0].graph, linkInto(users[0], link.origin_slot)];
      continue;
    }
    const origin = graph.getNodeById(link.origin_id);
    if (!origin || origin.mode === MUTED) return null;
    if (REROUTES.has(origin.type) || origin.mode === BYPASSED) {
      const type = origin.outputs?.[link.origin_slot]?.type;
      link = linkInto(origin, slotOf(origin, (input) => REROUTES.has(origin.type) || input.type === type));
    } else if (origin.subgraph) {
      graph = origin.subgraph;
      link = graph.outputNode.slots[link.origin_slot]?.getLinks()[0];
    } else return origin;
  }
  return null;
}

function linkInto(node, slot) {
  return node.graph?.getLink(node.inputs?.[slot]?.link) ?? null;
}

/** The nodes that stand for a subgraph. */
function usersOf(subgraph) {
  const { rootGraph } = subgraph;
  const graphs = [rootGraph, ...rootGraph.subgraphs.values()];
  return graphs.flatMap((graph) => graph.nodes.filter((node) => node.subgraph === subgraph));
}

function slotOf(node, wanted) {
  return node.inputs?.findIndex(wanted) ?? -1;
}

/** What a node's last run told the browser under a name; undefined before it ran. */
export function toldBy(node, name) {
  const { graph } = node;
  const inside = graph && graph.rootGraph && graph !== graph.rootGraph; // of a subgraph
  return app.nodeOutputs?.[inside ? `${graph.id}:${node.id}` : String(node.id)]?.[name];
}

/** Changes between the two calls are one step of undo. */
function beginEdit() {
  app.canvas?.emitBeforeChange?.();
}

function endEdit() {
  app.canvas?.emitAfterChange?.();
}

/** One step of undo until a pointer is let go, wherever that is; gives what ends it sooner. */
export function editWhileHeld({ pointerId }, ended) {
  const over = new AbortController();
  const { signal } = over;
  const end = () => {
    if (signal.aborted) return;
    over.abort();
    ended();
    endEdit();
  };
  for (const kind of ["pointerup", "pointercancel"]) // of the window: the element may be gone by then
    window.addEventListener(kind, (event) => event.pointerId === pointerId && end(), { capture: true, signal });
  beginEdit();
  return end;
}

export function edit(change) {
  beginEdit();
  try {
    change();
  } finally {
    endEdit();
  }
}
