/**
 * How long a clip is before anything has run: `{seconds, fps}` read from the nodes that make it.
 * `seconds` or `fps` is null where it cannot be known; a guess would be worse than "unknown".
 */

import { api } from "../../../scripts/api.js";
import { originOf, toldBy, valueOf } from "./graph.js";

const UNKNOWN = Object.freeze({ seconds: null, fps: null });
const FARTHEST = 64; // nodes up the graph: a cycle ends here
const VIDEO_FILE = /\.(mp4|webm|mov|mkv|m4v|ogv)$/i;

/** Nodes whose clip is as long as that of this input. */
const PASSES = {
  PatchDiT_StartDenoising: "latent",
  PatchDiT_DenoiseStep: "state",
  PatchDiT_EditDenoising: "state",
  PatchDiT_FinishDenoising: "state",
  PatchDiT_EncodeVideo: "video",
  PatchDiT_RemixVideo: "video",
  PatchDiT_Reframe: "video",
  PatchDiT_PinFrames: "latent",
  KSampler: "latent_image",
  KSamplerAdvanced: "latent_image",
};

/** Nodes that say the length themselves. */
const LENGTHS = {
  LoadVideo: (node) => fileLength(valueOf(node, "file")),
  PatchDiT_EmptyVideoLatent: emptyLength,
  PatchDiT_DecodeVideo: decodedLength,
  PatchDiT_ExtendVideo: (node, depth) =>
    sum(keptOf(node, depth), { seconds: valueOf(node, "seconds", null) }),
  PatchDiT_StitchVideos: (node, depth) => {
    const both = sum(clipOf(node, "video_a", depth), clipOf(node, "video_b", depth));
    const bridge = valueOf(node, "mode") === "bridge" ? valueOf(node, "seconds", null) : 0;
    return sum(both, { seconds: bridge });
  },
  PatchDiT_Storyboard: (node) => ({
    seconds: shotsOf(node).reduce((all, shot) => all + valueOf(shot, "seconds", 0), 0) || null,
    fps: valueOf(node, "fps", 0) || null,
  }),
};

/** The clip that an input is given. The last run's word, if there was one, fills the gaps. */
export function clipOf(node, inputName, depth = FARTHEST) {
  const origin = depth > 0 ? originOf(node, inputName) : null;
  if (!origin) return UNKNOWN;
  if (origin.type in LENGTHS) return LENGTHS[origin.type](origin, depth - 1);
  if (origin.type in PASSES) return clipOf(origin, PASSES[origin.type], depth - 1);
  return UNKNOWN;
}

/** The same, completed by `patchdit_source`: what the node itself saw when it last ran. */
export function clipSeenBy(node, inputName, place = 0) {
  const read = clipOf(node, inputName);
  const seen = toldBy(node, "patchdit_source")?.[place] ?? UNKNOWN;
  return { seconds: read.seconds ?? seen.seconds, fps: read.fps ?? seen.fps };
}

/** What Extend Video keeps of its clip, after from_frame. */
export function keptOf(node, depth = FARTHEST) {
  const clip = depth === FARTHEST ? clipSeenBy(node, "video") : clipOf(node, "video", depth);
  const from = valueOf(node, "from_frame", -1);
  if (from < 0) return clip;
  if (clip.fps === null) return { ...clip, seconds: null };
  const forwards = valueOf(node, "direction") !== "backwards";
  if (!forwards && clip.seconds === null) return clip;
  const seconds = forwards ? (from + 1) / clip.fps : clip.seconds - from / clip.fps;
  return { ...clip, seconds: Math.max(seconds, 1 / clip.fps) };
}

/** The Shot nodes that a Storyboard films, first to last. */
export function shotsOf(storyboard) {
  const shots = [];
  let shot = originOf(storyboard, "shots");
  while (shot?.type === "PatchDiT_Shot" && !shots.includes(shot) && shots.length < 1000) {
    shots.unshift(shot);
    shot = originOf(shot, "previous");
  }
  return shots;
}

function sum(first, second) {
  const known = first.seconds != null && second.seconds != null;
  return { seconds: known ? first.seconds + second.seconds : null, fps: first.fps };
}

function emptyLength(node) {
  const fps = valueOf(node, "fps", null);
  const frames = valueOf(node, "frames", null);
  if (valueOf(node, "length_in") !== "frames") return { seconds: valueOf(node, "seconds", null), fps };
  return { seconds: fps && frames ? frames / fps : null, fps };
}

/** Its own `fps`, where that is not 0, shows the same frames faster or slower. */
function decodedLength(node, depth) {
  const clip = clipOf(node, "latent", depth);
  const fps = valueOf(node, "fps", null);
  if (fps === 0) return clip;
  const frames = clip.seconds === null || clip.fps === null ? null : clip.seconds * clip.fps;
  return { seconds: fps && frames ? frames / fps : null, fps };
}

const files = new Map(); // by file name; null while its header is being read

function fileLength(name) {
  if (typeof name !== "string" || !VIDEO_FILE.test(name)) return UNKNOWN;
  if (!files.has(name)) {
    files.set(name, null);
    const video = document.createElement("video");
    video.preload = "metadata";
    video.onloadedmetadata = () => files.set(name, video.duration);
    const cut = name.lastIndexOf("/");
    const parts = { filename: name.slice(cut + 1), subfolder: name.slice(0, Math.max(cut, 0)) };
    video.src = api.apiURL(`/view?${new URLSearchParams({ ...parts, type: "input" })}`);
  }
  const seconds = files.get(name);
  return { seconds: Number.isFinite(seconds) ? seconds : null, fps: null };
}
