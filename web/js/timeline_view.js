/** Segments along time in the DOM: drawn, dragged, and worked with the keyboard. */

import { make } from "./dom_view.js";
import { edit, editWhileHeld } from "./graph.js";
import { say } from "./words.js";

const HEADROOM = 1.06; // of the length, so that a last edge can be grabbed and pulled
const TICKS = [0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
const TICK_ROOM = 46; // pixels
const MOST_TICKS = 100;
const NOMINAL = 2; // seconds that a clip of unknown length is drawn as

export class TimelineView {
  /** `read()` gives the timeline as it is now, see segments.js. */
  constructor(read) {
    this.read = read;
    this.parts = [];
    this.seen = "";
    this.drag = null;
    this.total = make("span", "patchdit-total");
    this.ruler = make("div", "patchdit-ruler", { "aria-hidden": "true" });
    this.track = make("div", "patchdit-track", { "data-empty": say("Connect shots to see them here") });
    const keys = say("Drag an edge, or use the keyboard: arrows one frame, Shift one second, L lock, R another take.");
    const heading = make("div", "patchdit-heading", { title: keys }, say("Timeline"), this.total);
    const described = { role: "group", "aria-label": say("Timeline") };
    this.element = make("div", "patchdit-timeline", described, heading, this.track, this.ruler);
  }

  height() {
    return 104;
  }

  /** Draw what the graph says, if it says something else than before. */
  refresh() {
    this.line = this.read();
    const width = this.track.offsetWidth;
    const shown = (part) => [part.kind, part.label, part.seconds, part.seam, part.edge, part.locked];
    const actions = (part) => [part.lock !== null, part.reroll !== null];
    const { segments, anchor } = this.line;
    const now = JSON.stringify([segments.map((one) => [...shown(one), ...actions(one)]), anchor, width, this.drag?.span]);
    if (now === this.seen) return;
    this.seen = now;
    this.#matchParts();
    this.#place(width);
  }

  #matchParts() {
    const { segments } = this.line;
    while (this.parts.length > segments.length) this.parts.pop().element.remove();
    while (this.parts.length < segments.length) {
      const part = new Part(this, this.parts.length);
      this.parts.push(part);
      this.track.append(part.element);
    }
    this.track.classList.toggle("patchdit-empty", segments.length === 0);
  }

  #place(width) {
    const { segments, anchor } = this.line;
    const length = segments.reduce((all, one) => all + drawn(one), 0);
    const span = Math.max(this.drag?.span ?? length * HEADROOM, length) || 1;
    const scale = width / span;
    let at = anchor === "right" ? span - length : 0;
    this.parts.forEach((part, place) => {
      part.show(segments[place], at * scale, drawn(segments[place]) * scale);
      at += drawn(segments[place]);
    });
    const unknown = segments.some((one) => one.seconds === null);
    this.total.textContent = totalOf(segments, unknown);
    this.span = span;
    const origin = anchor === "right" ? span - length : 0;
    this.#rule(unknown ? 0 : length, origin * scale, scale);
  }

  #rule(length, origin, scale) {
    const step = Math.max(TICKS.find((one) => one * scale >= TICK_ROOM) ?? length / 10, length / MOST_TICKS);
    const count = length > 0 ? Math.floor(length / step + 1e-6) + 1 : 0;
    const ticks = [];
    for (let place = 0; place < count; place++) {
      const time = place * step;
      const tick = make("span", "patchdit-tick", {}, `${+time.toFixed(2)}s`);
      tick.style.left = `${origin + time * scale}px`;
      ticks.push(tick);
    }
    this.ruler.replaceChildren(...ticks);
  }

  startDrag(place, side, event) {
    const segment = this.line.segments[place];
    const perPixel = this.span / this.track.getBoundingClientRect().width; // zoom included
    const end = editWhileHeld(event, () => (this.drag = null));
    this.drag = { segment, side, from: event.clientX, span: this.span, perPixel, end };
  }

  moveDrag(event) {
    const { segment, side, from, perPixel } = this.drag;
    const both = segment.edge === "both" ? 2 : 1;
    const way = (event.clientX - from) * perPixel * (side === "left" ? -both : both);
    segment.set(segment.seconds + way);
    this.refresh();
  }

  /** The node is gone, and a drag with it. */
  end() {
    this.drag?.end();
  }

  /** What a key does to the segment at a place; false where it does nothing. */
  key(place, event) {
    const segment = this.line.segments[place];
    const step = event.shiftKey ? 1 : segment.frame;
    const resize = (by) => segment.edge && edit(() => segment.set(segment.seconds + by));
    const actions = {
      ArrowRight: () => resize(step),
      ArrowUp: () => resize(step),
      ArrowLeft: () => resize(-step),
      ArrowDown: () => resize(-step),
      Home: () => this.parts[0].element.focus(),
      End: () => this.parts.at(-1).element.focus(),
      l: () => segment.lock && edit(segment.lock),
      r: () => segment.reroll && edit(segment.reroll),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return false;
    action();
    this.refresh();
    return true;
  }
}

/** One segment's elements. They are kept while it changes, so that focus and a drag survive. */
class Part {
  constructor(view, place) {
    [this.view, this.place] = [view, place];
    this.label = make("span", "patchdit-label");
    this.time = make("span", "patchdit-time");
    this.lock = this.#button("lock", () => this.segment.lock());
    this.reroll = this.#button("reroll", () => this.segment.reroll());
    const buttons = make("span", "patchdit-buttons", {}, this.lock, this.reroll);
    this.edges = { left: this.#edge("left"), right: this.#edge("right") };
    const children = [this.label, this.time, buttons, this.edges.left, this.edges.right];
    this.element = make("div", "patchdit-segment", { tabindex: "0" }, ...children);
    this.element.addEventListener("keydown", (event) => {
      if (event.target !== this.element || !view.key(this.place, event)) return;
      event.preventDefault();
      event.stopPropagation(); // ComfyUI has shortcuts on the same keys
    });
  }

  #button(name, action) {
    const button = make("button", `patchdit-button patchdit-${name}`, { type: "button", tabindex: "-1" }, make("i", "pi"));
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      edit(action);
      this.view.refresh();
    });
    return button;
  }

  #edge(side) {
    const { view } = this;
    const edge = make("span", `patchdit-edge patchdit-edge-${side}`, { "aria-hidden": "true" });
    edge.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || view.drag) return;
      event.stopPropagation();
      edge.setPointerCapture(event.pointerId);
      view.startDrag(this.place, side, event);
    });
    edge.addEventListener("pointermove", (event) => view.drag && view.moveDrag(event));
    return edge;
  }

  show(segment, left, width) {
    this.segment = segment;
    const { element } = this;
    element.dataset.kind = segment.kind;
    element.classList.toggle("patchdit-seam", segment.seam);
    element.classList.toggle("patchdit-locked", segment.locked);
    element.classList.toggle("patchdit-unknown", segment.seconds === null);
    element.style.left = `${left}px`;
    element.style.width = `${width}px`;
    this.label.textContent = segment.label;
    this.time.textContent = lengthOf(segment);
    for (const [side, edge] of Object.entries(this.edges))
      edge.hidden = segment.edge !== side && segment.edge !== "both";
    this.#showButtons(segment);
    this.#describe(segment);
  }

  #showButtons(segment) {
    this.lock.hidden = segment.lock === null;
    this.reroll.hidden = segment.reroll === null;
    this.lock.firstChild.className = segment.locked ? "pi pi-lock" : "pi pi-lock-open";
    this.reroll.firstChild.className = "pi pi-refresh";
    name(this.lock, say(segment.locked ? "Unlock this shot (L)" : "Lock this shot: never make it again (L)"));
    name(this.reroll, say("Another take: a new seed (R)"));
  }

  #describe(segment) {
    const length = lengthOf(segment);
    const words = [segment.label, length, segment.locked ? say("locked") : ""].filter(Boolean).join(", ");
    const { element } = this;
    element.setAttribute("aria-label", words);
    element.title = words;
    element.setAttribute("role", segment.edge ? "slider" : "img");
    const range = { valuemin: segment.frame, valuemax: segment.max, valuenow: segment.seconds, valuetext: length };
    for (const [key, value] of Object.entries(range)) {
      if (segment.edge) element.setAttribute(`aria-${key}`, String(value));
      else element.removeAttribute(`aria-${key}`);
    }
  }
}

function name(button, words) {
  button.title = words;
  button.setAttribute("aria-label", words);
}

function drawn(segment) {
  return segment.seconds ?? NOMINAL;
}

function sumOf(segments) {
  return segments.reduce((all, one) => all + (one.seconds ?? 0), 0);
}

function totalOf(segments, unknown) {
  const n = rounded(sumOf(segments));
  if (!unknown) return segments.length ? say("{n} s", { n }) : "";
  return n ? say("more than {n} s", { n }) : say("length unknown");
}

function lengthOf(segment) {
  return segment.seconds === null ? say("length unknown") : say("{n} s", { n: rounded(segment.seconds) });
}

function rounded(value) {
  return +value.toFixed(2);
}
