/** The extension: what a node of the last run reports in words stands in the node, to be read. */

import { app } from "../../../scripts/app.js";
import { addView, loadStyle, make } from "./dom_view.js";
import { toldBy } from "./graph.js";
import { say } from "./words.js";

const REPORTS = new Set(["PatchDiT_EstimateCost", "PatchDiT_LoadVideoModel", "PatchDiT_SaveDenoiseState"]);
const TALLEST = 260; // pixels; longer reports scroll
const MARGINS = 28; // of the view and in it

class ReportView {
  constructor(node) {
    [this.node, this.seen, this.tall] = [node, "", 0];
    this.text = make("div", "patchdit-report-text");
    const described = { role: "status", "aria-label": say("Report"), tabindex: "0" };
    this.element = make("div", "patchdit-report", described, this.text);
    this.element.hidden = true;
  }

  height() {
    return this.tall && Math.min(this.tall, TALLEST) + MARGINS;
  }

  refresh() {
    const told = toldBy(this.node, "text");
    const text = told ? [told].flat().join("\n") : "";
    const now = `${text.length} ${this.text.offsetHeight} ${this.text.offsetWidth}`;
    if (text === this.text.textContent && now === this.seen) return;
    this.text.textContent = text;
    this.element.hidden = text === "";
    this.seen = now;
    const tall = text && Math.max(this.text.offsetHeight, 14);
    if (tall === this.tall) return;
    this.tall = tall || 0;
    this.#fitNode();
  }

  #fitNode() {
    const { node } = this;
    const needed = node.computeSize()[1];
    if (node.size[1] < needed) node.setSize([node.size[0], needed]);
    node.setDirtyCanvas?.(true, true);
  }
}

app.registerExtension({
  name: "PatchDiT.Report",
  setup: loadStyle,
  nodeCreated(node) {
    if (REPORTS.has(node.comfyClass)) addView(node, "report", new ReportView(node));
  },
});
