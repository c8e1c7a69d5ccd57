/**
 * What a timeline shows, read anew from the widgets at every look.
 *
 * A segment: `kind` known | new | morph | shot; `label`; `seconds`, null where unknown; `seam`: it
 * flows out of the one before; `edge` "right" | "left" | "both": which side may be dragged, null for
 * none; `set(seconds)`; `frame`: seconds of a frame; `locked`, `lock()`, `reroll()`: null where the
 * graph has no widget for it. A timeline: `segments`, `anchor`: the end that stays put in a drag.
 */

import { clipSeenBy, keptOf, shotsOf } from "./clip_lengths.js";
import { isEditable, numberOf, textOf, valueOf, write } from "./graph.js";
import { say } from "./words.js";

const USUAL_FRAME = 0.125; // seconds: the step of our seconds widgets
const LARGEST_SEED = 2 ** 32;

export const TIMELINES = {
  PatchDiT_ExtendVideo: extendTimeline,
  PatchDiT_StitchVideos: stitchTimeline,
  PatchDiT_Storyboard: storyboardTimeline,
};

function segment(fields) {
  return { seam: false, edge: null, frame: USUAL_FRAME, locked: false, lock: null, reroll: null, ...fields };
}

function extendTimeline(node) {
  const backwards = valueOf(node, "direction") === "backwards";
  const whole = clipSeenBy(node, "video");
  const kept = keptOf(node);
  const known = segment({
    kind: "known",
    label: keptLabel(node, backwards),
    seconds: kept.seconds,
    seam: backwards,
    ...cutOf(node, whole, backwards),
  });
  const made = segment({
    kind: "new",
    label: say(backwards ? "what led to it" : "what happens next"),
    seam: !backwards,
    ...lengthOf(node, kept.fps, backwards ? "left" : "right"),
    reroll: rerollOf(node),
  });
  return backwards
    ? { segments: [made, known], anchor: "right" }
    : { segments: [known, made], anchor: "left" };
}

function keptLabel(node, backwards) {
  const from = numberOf(node, "from_frame") ?? -1;
  if (from < 0) return say("clip");
  return say(backwards ? "clip from frame {n}" : "clip to frame {n}", { n: from });
}

/** The draggable joint of a clip: where it is cut, in frames of from_frame. */
function cutOf(node, whole, backwards) {
  if (whole.seconds === null || !whole.fps || !isEditable(node, "from_frame")) return {};
  const frames = Math.max(Math.round(whole.seconds * whole.fps), 1);
  const set = (seconds) => {
    const kept = Math.min(Math.max(Math.round(seconds * whole.fps), 1), frames);
    const from = backwards ? frames - kept : kept - 1;
    write(node, "from_frame", kept === frames ? -1 : from);
  };
  return { edge: backwards ? "left" : "right", frame: 1 / whole.fps, max: frames / whole.fps, set };
}

function stitchTimeline(node) {
  const [a, b] = [clipSeenBy(node, "video_a", 0), clipSeenBy(node, "video_b", 1)];
  const bridge = valueOf(node, "mode") === "bridge";
  const seconds = numberOf(node, "seconds");
  const half = bridge ? 0 : seconds === null ? null : seconds / 2;
  const rest = (clip) => (clip.seconds === null || half === null ? null : Math.max(clip.seconds - half, 0));
  const middle = segment({
    kind: bridge ? "new" : "morph",
    label: say(bridge ? "bridge" : "A becomes B"),
    seam: true,
    ...lengthOf(node, a.fps, bridge ? "right" : "both"),
    reroll: rerollOf(node),
  });
  const first = segment({ kind: "known", label: "A", seconds: rest(a) });
  const last = segment({ kind: "known", label: "B", seconds: rest(b), seam: true });
  return { segments: [first, middle, last], anchor: "left" };
}

function storyboardTimeline(node) {
  const { shots, whole } = shotsOf(node);
  const segments = shots.map((shot, place) => {
    const locked = valueOf(shot, "lock", false) === true;
    const length = lengthOf(shot, numberOf(node, "fps") || null, "right");
    const toggle = isEditable(shot, "lock") ? () => write(shot, "lock", !locked) : null;
    return segment({
      kind: "shot",
      label: shotLabel(shot, whole ? place + 1 : "?"),
      seam: (place > 0 || !whole) && valueOf(shot, "join") === "continue",
      ...length,
      edge: locked ? null : length.edge, // a locked shot of another length was never made
      locked,
      lock: toggle,
      reroll: locked ? null : rerollOf(shot),
    });
  });
  if (!whole) segments.unshift(segment({ kind: "shot", label: say("shots from elsewhere"), seconds: null }));
  return { segments, anchor: "left" };
}

function shotLabel(shot, n) {
  const prompt = textOf(shot, "prompt").trim();
  return prompt ? `${n}  ${prompt}` : say("Shot {n}", { n });
}

/** Length of a new part: the widget `seconds`, in whole frames where their rate is known. */
function lengthOf(node, fps, edge) {
  const frame = fps ? 1 / fps : USUAL_FRAME;
  const set = (seconds) => {
    const whole = Math.max(Math.round(seconds / frame), 1) * frame;
    write(node, "seconds", Math.round(whole * 1000) / 1000);
  };
  const seconds = numberOf(node, "seconds");
  return { seconds, frame, max: 600, set, edge: seconds !== null && isEditable(node, "seconds") ? edge : null };
}

function rerollOf(node) {
  if (!isEditable(node, "seed")) return null;
  return () => write(node, "seed", Math.floor(Math.random() * LARGEST_SEED));
}
