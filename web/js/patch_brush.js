/** The extension: a brush on Select Patches, seen while `by` is set to brush. */

import { app } from "../../../scripts/app.js";
import { BrushView } from "./brush_view.js";
import { addView, loadStyle } from "./dom_view.js";

app.registerExtension({
  name: "PatchDiT.PatchBrush",
  setup: loadStyle,
  nodeCreated(node) {
    if (node.comfyClass === "PatchDiT_SelectPatches") addView(node, "patch_brush", new BrushView(node));
  },
});
