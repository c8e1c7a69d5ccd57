/** The extension: on the host of `make canvas` the top of the page says that it is no ComfyUI. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { say } from "./words.js";

const NAME = "PatchDiT preview host"; // as standalone/server/pack.py calls itself

app.registerExtension({
  name: "PatchDiT.PreviewHost",
  setup() {
    api.getSystemStats().then(({ system }) => system.comfyui_version === NAME && show());
  },
});

function show() {
  const text = say("PatchDiT preview host");
  const tooltip = say("It runs this pack's nodes and a few of ComfyUI's, no others.");
  app.registerExtension({ name: "PatchDiT.PreviewHost.Badge", topbarBadges: [{ text, tooltip }] });
}
