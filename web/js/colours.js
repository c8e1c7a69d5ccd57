/**
 * The extension: a node wears the colour of its verb, unless a user or a workflow gave it another.
 *
 * The colours are dark, as ComfyUI's own are: a light theme lightens what a node is given. All have
 * one brightness and little saturation, so that every text is as easy to read as on a plain node.
 */

import { app } from "../../../scripts/app.js";

const NEUTRAL = ["#262a31", "#353b43"]; // what every verb needs: the verbs stand out from it
const PATCHES = ["#38251a", "#4c3526"];

/** The last word of a node's category: its title bar, its body. */
const COLOURS = {
  load: NEUTRAL,
  latent: NEUTRAL,
  denoise: NEUTRAL,
  measure: NEUTRAL,
  extend: ["#1a2940", "#293b55"],
  stitch: ["#2c2442", "#3c3455"],
  storyboard: ["#132d2a", "#1f3f3c"],
  loop: ["#1e2d1d", "#2c3f2b"],
  reframe: ["#2e2916", "#413a22"],
  remix: ["#3b2027", "#503039"],
  pin: ["#362236", "#4a324a"],
  patches: PATCHES,
  patchify: PATCHES,
};

app.registerExtension({
  name: "PatchDiT.Colours",
  nodeCreated(node) {
    const colours = node.comfyClass?.startsWith("PatchDiT_") && COLOURS[node.constructor.category?.split("/").at(-1)];
    if (!colours || node.color || node.bgcolor) return;
    [node.color, node.bgcolor] = colours;
    keepChoice(node);
  },
});

/** What a file says of one colour goes for both; "no colour" is saved too, as an empty text. */
function keepChoice(node) {
  const { onConfigure, onSerialize } = node;
  node.onConfigure = function (info, ...rest) {
    if (info.color !== undefined || info.bgcolor !== undefined)
      [this.color, this.bgcolor] = [info.color, info.bgcolor];
    return onConfigure?.call(this, info, ...rest);
  };
  node.onSerialize = function (info, ...rest) {
    if (!this.color && !this.bgcolor) [info.color, info.bgcolor] = ["", ""];
    return onSerialize?.call(this, info, ...rest);
  };
}
