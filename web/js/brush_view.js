/**
 * Painting patches of a clip by hand. What is painted lies in the node's `brush` widget alone; the
 * view keeps only where one looks (the time) and the tool in hand.
 */

import { drawPainting } from "./brush_picture.js";
import { blank, readBrush, writeBrush } from "./brush_text.js";
import { make } from "./dom_view.js";
import { edit, editWhileHeld, textOf, toldBy, valueOf, write } from "./graph.js";
import { say } from "./words.js";

const TALLEST = 280; // pixels of the picture
const CONTROLS = 92; // pixels of what is below it, and of the margins
const SHARPNESS = 2; // canvas pixels per pixel
const FLATTEST = 8; // times as wide as high, or as high as wide

export class BrushView {
  constructor(node) {
    [this.node, this.time, this.erasing, this.everywhere] = [node, 0, false, false];
    [this.cursor, this.stroke, this.seen, this.sheet] = [null, null, "", null];
    const canvas = { tabindex: "0", role: "application", "aria-roledescription": "patch grid" };
    this.canvas = make("canvas", "patchdit-picture", canvas);
    this.notice = make("div", "patchdit-notice", { role: "status" });
    this.slider = make("input", "patchdit-slider", { type: "range", min: "0", step: "1", "aria-label": say("Time") });
    this.when = make("span", "patchdit-when");
    const times = make("div", "patchdit-row", {}, this.slider, this.when);
    const stage = make("div", "patchdit-stage", {}, this.canvas, this.notice);
    this.element = make("div", "patchdit-brush", { role: "group", "aria-label": say("Patch brush") }, stage, times, this.#tools());
    this.slider.addEventListener("input", () => this.#look(Number(this.slider.value)));
    this.#listen();
  }

  #tools() {
    const tool = (text, title, action) => {
      const button = make("button", "patchdit-tool", { type: "button", title: say(title) }, say(text));
      button.addEventListener("click", () => (action(), this.refresh()));
      return button;
    };
    this.paint = tool("Paint", "Paint patches (hold Shift to erase)", () => (this.erasing = false));
    this.erase = tool("Erase", "Take patches away", () => (this.erasing = true));
    this.all = tool("All times", "Paint and clear through the whole clip", () => (this.everywhere = !this.everywhere));
    this.clear = tool("Clear", "Clear this time, or all with All times", () => this.#clear());
    const range = { type: "range", min: "1", max: "5", step: "1", value: "1", "aria-label": say("Brush size"), title: say("Brush size in patches") };
    this.size = make("input", "patchdit-slider patchdit-size", range);
    return make("div", "patchdit-row", {}, this.paint, this.erase, this.size, this.all, this.clear);
  }

  get shown() {
    return valueOf(this.node, "by") === "brush";
  }

  height() {
    if (!this.shown) return 0;
    const width = this.node.size[0] - 16;
    return Math.round(Math.min(width / this.#aspect(), TALLEST)) + CONTROLS;
  }

  #aspect() {
    const { sheet } = this;
    const { t = 1, h = 9, w = 16 } = this.grid ?? {};
    const seen = sheet?.complete && sheet.naturalHeight;
    const aspect = seen ? sheet.naturalWidth / (sheet.naturalHeight / t) : w / h;
    return Math.min(Math.max(aspect, 1 / FLATTEST), FLATTEST);
  }

  /** Show the widgets and the last run as they are now. */
  refresh() {
    const text = textOf(this.node, "brush");
    const run = toldBy(this.node, "patchdit_grid")?.[0];
    const inHand = [this.time, this.erasing, this.everywhere, this.cursor];
    const look = [this.sheet?.complete, this.canvas.offsetWidth, document.activeElement === this.canvas];
    const now = JSON.stringify([this.shown, text, run && [run.t, run.h, run.w, run.picture.length], inHand, look]);
    if (now === this.seen && run === this.run) return;
    [this.seen, this.run] = [now, run];
    this.#take(text, run);
    this.element.hidden = !this.shown;
    if (this.shown) this.#show(text);
    if (this.shown !== this.wasShown) this.#fitNode();
  }

  #take(text, run) {
    const painted = readBrush(text);
    this.grid = run ?? painted;
    const fits = painted && this.grid.t === painted.t && this.grid.h === painted.h && this.grid.w === painted.w;
    this.painting = fits ? painted : this.grid && blank(this.grid);
    this.stale = text.trim() !== "" && !fits;
    if (run?.picture !== this.sheet?.src && (run || this.sheet)) {
      this.sheet = run ? Object.assign(new Image(), { src: run.picture }) : null;
    }
  }

  #show(text) {
    const { grid, painting } = this;
    this.notice.textContent = noticeOf(grid, this.stale, text);
    this.notice.hidden = !this.notice.textContent;
    this.notice.classList.toggle("patchdit-cover", !grid);
    for (const [button, on] of [[this.paint, !this.erasing], [this.erase, this.erasing], [this.all, this.everywhere]])
      button.setAttribute("aria-pressed", String(on));
    if (!grid) return;
    this.time = Math.min(this.time, grid.t - 1);
    [this.slider.max, this.slider.value] = [String(grid.t - 1), String(this.time)];
    this.when.textContent = say("{span} · {n} of {total}", {
      span: spanOf(grid, this.time),
      n: painting.cells.reduce((all, one) => all + one, 0),
      total: painting.cells.length,
    });
    this.#resize();
    const cursor = document.activeElement === this.canvas ? this.cursor : null;
    drawPainting(this.canvas, painting, this.time, this.sheet, cursor);
    this.#describe();
  }

  #resize() {
    const aspect = this.#aspect();
    this.canvas.style.aspectRatio = String(aspect);
    this.canvas.style.maxWidth = `${Math.round(TALLEST * aspect)}px`;
    const width = Math.max(this.canvas.offsetWidth, 16) * SHARPNESS;
    [this.canvas.width, this.canvas.height] = [width, Math.round(width / aspect)];
    if (this.sheet && !this.sheet.complete) this.sheet.onload = () => (this.#fitNode(), this.refresh());
  }

  #describe() {
    const { w, h, cells } = this.painting;
    const patch = this.cursor ?? 0;
    const place = { span: spanOf(this.grid, this.time), row: Math.floor(patch / w) + 1, column: (patch % w) + 1 };
    const words = cells[this.time * w * h + patch]
      ? say("{span}, row {row}, column {column}, painted. Arrows move, Space paints, Page Up and Down change the time.", place)
      : say("{span}, row {row}, column {column}, not painted. Arrows move, Space paints, Page Up and Down change the time.", place);
    this.canvas.setAttribute("aria-label", words);
  }

  /** A node grows by itself where it has to, but never shrinks. */
  #fitNode() {
    const { node } = this;
    if (this.wasShown && !this.shown) node.setSize([node.size[0], node.computeSize()[1]]);
    this.wasShown = this.shown;
    node.setDirtyCanvas?.(true, true);
  }

  /** The node is gone, and a stroke with it. */
  end() {
    this.stroke?.end();
  }

  #look(time) {
    this.time = Math.min(Math.max(time, 0), (this.grid?.t ?? 1) - 1);
    this.refresh();
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.grid || this.stroke) return;
      event.stopPropagation();
      canvas.setPointerCapture(event.pointerId);
      const end = editWhileHeld(event, () => (this.stroke = null));
      this.stroke = { last: this.#patchAt(event), on: !(this.erasing || event.shiftKey), end };
      this.#dab(this.stroke.last, this.stroke.last, this.stroke.on);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.stroke || !this.grid) return;
      const patch = this.#patchAt(event);
      this.#dab(this.stroke.last, patch, this.stroke.on);
      this.stroke.last = patch;
    });
    canvas.addEventListener("keydown", (event) => {
      if (!this.grid || event.ctrlKey || event.metaKey || event.altKey || !this.#key(event.key)) return;
      event.preventDefault();
      event.stopPropagation(); // ComfyUI has shortcuts on the same keys
    });
  }

  #patchAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const { w, h } = this.grid;
    const along = (at, start, length, count) =>
      Math.min(Math.max(Math.floor(((at - start) / length) * count), 0), count - 1);
    return { x: along(event.clientX, box.left, box.width, w), y: along(event.clientY, box.top, box.height, h) };
  }

  #key(key) {
    const { w, h } = this.grid;
    const now = this.cursor ?? 0;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -w, ArrowDown: w };
    if (key in moves) {
      const next = now + moves[key];
      const sameRow = Math.abs(moves[key]) !== 1 || Math.floor(next / w) === Math.floor(now / w);
      if (next >= 0 && next < w * h && sameRow) this.cursor = next;
    } else if (key === "PageUp" || key === "PageDown") {
      this.#look(this.time + (key === "PageUp" ? 1 : -1));
    } else if (key === " " || key === "Enter") {
      this.cursor = now;
      const patch = { x: now % w, y: Math.floor(now / w) };
      edit(() => this.#dab(patch, patch, !this.painting.cells[this.time * w * h + now]));
    } else if (key === "Delete") {
      this.#clear();
    } else return false;
    this.refresh();
    return true;
  }

  /** Set the patches along a line, as wide as the brush, and write them into the widget. */
  #dab(from, to, on) {
    const { t, w, h, cells } = this.painting;
    const reach = Number(this.size.value) - 1;
    const steps = Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y), 1);
    const times = this.everywhere ? [...Array(t).keys()] : [this.time];
    for (let step = 0; step <= steps; step++) {
      const x = Math.round(from.x + ((to.x - from.x) * step) / steps);
      const y = Math.round(from.y + ((to.y - from.y) * step) / steps);
      for (let row = Math.max(y - reach, 0); row <= Math.min(y + reach, h - 1); row++)
        for (let column = Math.max(x - reach, 0); column <= Math.min(x + reach, w - 1); column++)
          if ((row - y) ** 2 + (column - x) ** 2 <= (reach + 0.3) ** 2)
            for (const time of times) cells[(time * h + row) * w + column] = Number(on);
    }
    write(this.node, "brush", writeBrush(this.painting));
    this.refresh();
  }

  #clear() {
    edit(() => {
      const { h, w, cells } = this.painting ?? blank({ t: 0, h: 0, w: 0 });
      if (this.everywhere || this.stale) cells.fill(0);
      else cells.fill(0, this.time * h * w, (this.time + 1) * h * w);
      write(this.node, "brush", writeBrush({ t: 0, h: 0, w: 0, cells, ...this.painting }));
    });
    this.refresh();
  }
}

function noticeOf(grid, stale, text) {
  if (!grid && stale) return say("The text in brush is no painting: clear it.");
  if (!grid) return say("Run once to see the frames here, then paint.");
  if (!stale) return "";
  const grids = { old: text.trim().split(/\s/)[0].slice(0, 20), now: `${grid.t}x${grid.h}x${grid.w}` };
  return say("Painted on a grid of {old}, this clip has {now}: clear it or paint anew.", grids);
}

function spanOf(grid, time) {
  const [first, last] = grid.spans?.[time] ?? [null, null];
  if (first === null) return say("time {n} of {total}", { n: time + 1, total: grid.t });
  return first === last ? say("frame {n}", { n: first }) : say("frames {first}-{last}", { first, last });
}
