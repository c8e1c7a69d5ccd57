/** The extension: a timeline on Storyboard, Extend Video and Stitch Videos. */

import { app } from "../../../scripts/app.js";
import { addView, loadStyle } from "./dom_view.js";
import { TIMELINES } from "./segments.js";
import { TimelineView } from "./timeline_view.js";

app.registerExtension({
  name: "PatchDiT.Timeline",
  setup: loadStyle,
  nodeCreated(node) {
    const read = TIMELINES[node.comfyClass];
    if (read) addView(node, "timeline", new TimelineView(() => read(node)));
  },
});
