/** Reading and writing what a graph itself holds: ordinary widgets and links, nothing else. */

import { app } from "../../../scripts/app.js";

const BYPASSED = 4;
const REROUTES = new Set(["Reroute"]);

export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** The value of a widget; `fallback` where there is none or its value comes over a link. */
export function valueOf(node, name, fallback = undefined) {
  return isLinked(node, name) ? fallback : (widgetOf(node, name)?.value ?? fallback);
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
  const { min = -Infinity, max = Infinity } = widget.options ?? {};
  const kept = typeof value === "number" ? Math.min(Math.max(value, min), max) : value;
  if (widget.value === kept) return;
  widget.value = kept;
  widget.callback?.(kept, app.canvas, node);
  widget.value = kept; // ComfyUI's own callback rounds numbers to the digits of their step
  node.setDirtyCanvas?.(true, true);
}

/** The node that feeds an input, past reroutes and bypassed nodes; null where none is in sight. */
export function originOf(node, inputName) {
  let slot = slotOf(node, (input) => input.name === inputName);
  for (let steps = 0; steps < 100; steps++) {
    const link = slot < 0 ? null : node.getInputLink(slot);
    const origin = link && node.graph?.getNodeById(link.origin_id);
    if (!origin) return null;
    if (!REROUTES.has(origin.type) && origin.mode !== BYPASSED) return origin;
    const type = origin.outputs?.[link.origin_slot]?.type;
    slot = slotOf(origin, (input) => REROUTES.has(origin.type) || input.type === type);
    node = origin;
  }
  return null;
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
export function beginEdit() {
  app.canvas?.emitBeforeChange?.();
}

export function endEdit() {
  app.canvas?.emitAfterChange?.();
}

export function edit(change) {
  beginEdit();
  try {
    change();
  } finally {
    endEdit();
  }
}
