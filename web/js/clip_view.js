/** A clip that plays in the DOM, the step that its run has come to, and a button to end it there. */

import { make } from "./dom_view.js";
import { say } from "./words.js";

const TALLEST = 260; // pixels of the picture
const CONTROLS = 34; // pixels of what is below it
const SHARPNESS = 2; // canvas pixels per pixel

export class ClipView {
  constructor(node) {
    [this.node, this.told, this.sheet, this.drawn] = [node, null, null, ""];
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.canvas = make("canvas", "patchdit-clip-picture", { role: "img" });
    this.play = button(say("Play or pause"), () => this.#toggle());
    this.step = make("span", "patchdit-clip-step", { role: "status" });
    const ends = say("End this run after the present step and go on with what it shows");
    this.stop = button(ends, () => this.#stop());
    this.stop.classList.add("patchdit-clip-stop");
    const row = make("div", "patchdit-row", {}, this.play, this.step, this.stop);
    const described = { role: "group", "aria-label": say("Preview") };
    this.element = make("div", "patchdit-clip", described, this.canvas, row);
    this.end();
  }

  height() {
    if (!this.told) return 0;
    if (!this.picture) return CONTROLS;
    return Math.round(Math.min((this.node.size[0] - 16) / this.picture.aspect, TALLEST)) + CONTROLS;
  }

  /** Show a message of the run; `stop()` asks the server to end it. */
  show(message, stop) {
    [this.told, this.ask] = [message, stop];
    if (message.image) this.#load(message);
    this.canvas.hidden = this.play.hidden = !this.picture;
    this.step.textContent = say("step {n} of {total}", { n: message.step, total: message.total });
    this.step.title = this.picture ? "" : say("Pictures come with a live preview method in ComfyUI's settings.");
    this.#label();
  }

  /** The run is over. */
  end() {
    [this.told, this.picture, this.sheet, this.stopping] = [null, null, null, false];
    this.#label();
  }

  refresh() {
    const { picture, sheet, canvas } = this;
    if (!picture || !sheet) return;
    const now = this.still ? Math.floor(picture.frames / 2) : Math.floor(performance.now() / 1000 / picture.seconds);
    const frame = now % picture.frames;
    const look = `${frame} ${picture.step} ${canvas.offsetWidth}`;
    if (look === this.drawn) return;
    this.drawn = look;
    canvas.style.aspectRatio = String(picture.aspect);
    canvas.style.maxWidth = `${Math.round(TALLEST * picture.aspect)}px`;
    const width = Math.max(canvas.offsetWidth, 16) * SHARPNESS;
    [canvas.width, canvas.height] = [width, Math.round(width / picture.aspect)];
    canvas.dataset.frame = String(frame);
    canvas.setAttribute("aria-label", say("The clip after step {n}", { n: picture.step }));
    const { columns, width: w, height: h } = picture;
    const at = [(frame % columns) * w, Math.floor(frame / columns) * h];
    canvas.getContext("2d").drawImage(sheet, ...at, w, h, 0, 0, canvas.width, canvas.height);
  }

  /** The next sheet takes the place of the last one only when it can be drawn. */
  #load(message) {
    this.picture ??= message;
    const next = new Image();
    next.onload = () => {
      if (this.told) [this.sheet, this.picture] = [next, message];
    };
    next.src = message.image;
  }

  #toggle() {
    this.still = !this.still;
    this.#label();
  }

  #label() {
    this.play.textContent = say(this.still ? "Play" : "Pause");
    this.stop.disabled = this.stopping;
    this.stop.textContent = say(this.stopping ? "Stopping…" : "Stop here and decode");
  }

  async #stop() {
    this.stopping = true;
    this.#label();
    const { stopping } = await this.ask();
    this.stopping = stopping === true && this.told !== null;
    this.#label();
  }
}

function button(title, action) {
  const made = make("button", "patchdit-tool", { type: "button", title });
  made.addEventListener("click", action);
  made.addEventListener("keydown", (event) => {
    if (event.key === " " || event.key === "Enter") event.stopPropagation(); // ComfyUI's shortcuts
  });
  return made;
}
