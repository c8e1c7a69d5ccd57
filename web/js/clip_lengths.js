/**
 * How long a clip is before anything has run: `{seconds, fps}` read from the nodes that make it.
 * `seconds` or `fps` is null where it cannot be known; a guess would be worse than "unknown".
 */

import { api } from "../../../scripts/api.js";
import { numberOf, originOf, toldBy, valueOf } from "./graph.js";

const UNKNOWN = Object.freeze({ seconds: null, fps: null });
const FARTHEST = 64; // nodes up the graph: a cycle ends here
const VIDEO_FILE = /^(.+\.(?:mp4|webm|mov|mkv|m4v|ogv))(?: \[(input|output|temp)\])?$/i;

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
  LoadVideo: fileLength,
  PatchDiT_EmptyVideoLatent: emptyLength,
  PatchDiT_DecodeVideo: decodedLength,
  PatchDiT_ExtendVideo: (node, depth) =>
    sum(keptOf(node, depth), { seconds: numberOf(node, "seconds") }),
  PatchDiT_StitchVideos: (node, depth) => {
    const both = sum(clipOf(node, "video_a", depth), clipOf(node, "video_b", depth));
    const bridge = valueOf(node, "mode") === "bridge" ? numberOf(node, "seconds") : 0;
    return sum(both, { seconds: bridge });
  },
  PatchDiT_Storyboard: filmLength,
};

/** The clip that an input is given. The last run's word, if there was one, fills the gaps. */
export function clipOf(node, inputName, depth = FARTHEST) {
  const origin = depth > 0 ? originOf(node, inputName) : null;
  if (!origin) return UNKNOWN;
  if (Object.hasOwn(LENGTHS, origin.type)) return LENGTHS[origin.type](origin, depth - 1);
  if (Object.hasOwn(PASSES, origin.type)) return clipOf(origin, PASSES[origin.type], depth - 1);
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
  const from = numberOf(node, "from_frame");
  if (from !== null && from < 0) return clip;
  if (from === null || clip.fps === null) return { ...clip, seconds: null };
  const forwards = valueOf(node, "direction") !== "backwards";
  if (!forwards && clip.seconds === null) return clip;
  const seconds = forwards ? (from + 1) / clip.fps : clip.seconds - from / clip.fps;
  return { ...clip, seconds: Math.min(Math.max(seconds, 1 / clip.fps), clip.seconds ?? Infinity) };
}

/** The Shot nodes that a Storyboard films, first to last; `whole`: there are none before them. */
export function shotsOf(storyboard) {
  const shots = [];
  let shot = originOf(storyboard, "shots");
  while (shot?.type === "PatchDiT_Shot" && !shots.includes(shot) && shots.length < 1000) {
    shots.unshift(shot);
    shot = originOf(shot, "previous");
  }
  return { shots, whole: !shot || shots.includes(shot) };
}

function filmLength(node) {
  const { shots, whole } = shotsOf(node);
  const lengths = shots.map((shot) => numberOf(shot, "seconds"));
  const known = whole && shots.length > 0 && !lengths.includes(null);
  return { seconds: known ? lengths.reduce((all, one) => all + one) : null, fps: numberOf(node, "fps") || null };
}

function sum(first, second) {
  const known = first.seconds != null && second.seconds != null;
  return { seconds: known ? first.seconds + second.seconds : null, fps: first.fps };
}

function emptyLength(node) {
  const fps = numberOf(node, "fps");
  const frames = numberOf(node, "frames");
  if (valueOf(node, "length_in") !== "frames") return { seconds: numberOf(node, "seconds"), fps };
  return { seconds: fps && frames ? frames / fps : null, fps };
}

/** Its own `fps`, where that is not 0, shows the same frames faster or slower. */
function decodedLength(node, depth) {
  const clip = clipOf(node, "latent", depth);
  const fps = numberOf(node, "fps");
  if (fps === 0) return clip;
  const frames = clip.seconds === null || clip.fps === null ? null : clip.seconds * clip.fps;
  return { seconds: fps && frames ? frames / fps : null, fps };
}

const measured = new WeakMap(); // LoadVideo nodes: {name, age, seconds}, of the file that each names
let age = 0; // rises when a file may have become another: after a run, and back from another window
api.addEventListener("execution_success", () => (age += 1));
window.addEventListener("focus", () => (age += 1));

function fileLength(node) {
  const name = valueOf(node, "file");
  if (typeof name !== "string" || !VIDEO_FILE.test(name)) return UNKNOWN;
  if (measured.get(node)?.name !== name) measured.set(node, { name, seconds: null });
  const file = measured.get(node);
  if (file.age !== age) measure(file);
  return { seconds: file.seconds, fps: null };
}

/** Read a file's header; what was known of it stays until then. */
function measure(file) {
  file.age = age;
  const [, path, type = "input"] = VIDEO_FILE.exec(file.name);
  const cut = path.lastIndexOf("/");
  const place = { filename: path.slice(cut + 1), subfolder: path.slice(0, Math.max(cut, 0)), type };
  const video = document.createElement("video");
  const done = (seconds) => {
    file.seconds = Number.isFinite(seconds) ? seconds : null;
    video.removeAttribute("src");
    video.load(); // lets go of its connection
  };
  video.preload = "metadata";
  video.onloadedmetadata = () => done(video.duration);
  video.onerror = () => done(null);
  video.src = api.apiURL(`/view?${new URLSearchParams({ ...place, rand: Math.random() })}`); // not the browser's copy
}
