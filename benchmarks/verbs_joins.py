"""Rows of LoopVideo and StitchVideos: is the new time between two known parts joined smoothly?

A seam passes when its step is within the 95th percentile of the given clips' own steps + 1/255. A
loop closes a clip of 17 frames by 12 frames. A bridge of 12 frames stitches two clips of 17: "one
scene" has both from one film with the time between cut out, "two scenes" has clips of two scenes
that have nothing in common, each with its own prompt; "transform" turns the first of these into the
second over 12 frames of theirs. The nodes themselves make every clip (see `verbs_together`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from patchdit.benchmarks.verbs_rows import Row, share
from patchdit.benchmarks.verbs_world import (
    Bench,
    Filmed,
    describe,
    film,
    frames_of,
    seams_pass,
)
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.loop import LoopVideo
from patchdit.nodes.stitch import PrepareStitch, StitchVideos

GIVEN, NEW = 17, 12  # frames
SECONDS = NEW / 8
SMOOTH = 0.90


class Look(NamedTuple):
    """What is measured of two clips and the time between them."""

    first: bool
    second: bool
    exact: bool

    @property
    def both(self) -> bool:
        return self.first and self.second


def loop_rows(bench: Bench) -> list[Row]:
    """The wrap of a loop, and the seam into its closing part."""
    clips = [film(scene) for scene in bench.scenes(5, GIVEN)]

    def work(clip: Filmed, number: int) -> Look:
        given = bench.sampling(describe(clip.scene), number)
        given |= {"video": clip.frames_FHWC, "seconds": SECONDS}
        video = LoopVideo.execute(**bench.inputs(LoopVideo, **given)).args[1]
        frames_FHWC, own = frames_of(video), [(0, GIVEN)]
        return Look(
            seams_pass(frames_FHWC, [GIVEN], own),
            seams_pass(frames_FHWC, [], own, loop=True),
            torch.equal(frames_FHWC[:GIVEN], clip.frames_FHWC),
        )

    made = bench.each("loop", [lambda c=clip, i=i: work(c, i) for i, clip in enumerate(clips)])
    return [
        share("loop/wrap step within bound", [look.second for look in made], SMOOTH),
        share("loop/step into the closing part within bound", [look.first for look in made]),
        share("loop/given frames bit-exact", [look.exact for look in made], 1.0),
    ]


def stitch_rows(bench: Bench) -> list[Row]:
    """Both seams of a bridge within one scene, and between two."""
    films = [film(scene) for scene in bench.scenes(6, 2 * GIVEN + NEW)]
    ends = [(clip.frames_FHWC[:GIVEN], clip.frames_FHWC[-GIVEN:]) for clip in films]
    words = [describe(clip.scene) for clip in films]
    one = stitched(bench, "stitch one scene", ends, words)
    others = [film(scene) for scene in bench.scenes(60, GIVEN)]
    pairs = [(a, b.frames_FHWC) for (a, _), b in zip(ends, others, strict=True)]
    theirs = [describe(b.scene) for b in others]
    two = stitched(bench, "stitch two scenes", pairs, words, theirs)
    turned = stitched(bench, "transform", pairs, words, theirs, mode="transform")
    some = bench.controls(films)
    truth = [look(clip.frames_FHWC, *pair) for clip, pair in zip(some, ends, strict=False)]
    vae = [look(rebuilt(bench, clip, *pair), *pair) for clip, pair in zip(some, ends, strict=False)]
    name = "both seam steps within bound"
    controls = {"truth": [one.both for one in truth], "vae": [one.both for one in vae]}
    exact = [look.exact for look in (*one, *two, *turned)]
    return [
        share(f"stitch one scene/{name}", [look.both for look in one], SMOOTH, **controls),
        share(f"stitch two scenes/{name}", [look.both for look in two], SMOOTH),
        share(f"stitch transform/{name}", [look.both for look in turned], SMOOTH),
        share("stitch/A and B bit-exact", exact, 1.0),
    ]


def stitched(
    bench: Bench,
    name: str,
    pairs: list[tuple[Tensor, Tensor]],
    texts: list[str],
    texts_b: list[str] | None = None,
    **settings: Any,
) -> list[Look]:
    """Every pair stitched, under one prompt or from that of A to that of B."""

    def work(number: int) -> Look:
        a_FHWC, b_FHWC = pairs[number]
        given = bench.sampling(texts[number], number) | pair_of(a_FHWC, b_FHWC) | settings
        if texts_b is not None:
            given["positive_b"] = bench.say(texts_b[number])
        out = StitchVideos.execute(**bench.inputs(StitchVideos, **given)).args
        first, second = (int(seam) for seam in out[2].split(", "))
        frames_FHWC = frames_of(out[1])
        kept_b = len(frames_FHWC) - second
        return look(frames_FHWC, a_FHWC[:first], b_FHWC[len(b_FHWC) - kept_b :])

    return bench.each(name, [lambda i=i: work(i) for i in range(len(pairs))])


def pair_of(a_FHWC: Tensor, b_FHWC: Tensor) -> dict:
    return {"video_a": a_FHWC, "video_b": b_FHWC, "seconds": SECONDS}


def look(frames_FHWC: Tensor, a_FHWC: Tensor, b_FHWC: Tensor) -> Look:
    """Measures of A, a bridge and B."""
    A, F = len(a_FHWC), len(frames_FHWC)
    B = F - len(b_FHWC)
    own = [(0, A), (B, F)]
    first, second = (seams_pass(frames_FHWC, [seam], own) for seam in (A, B))
    exact = torch.equal(frames_FHWC[:A], a_FHWC) and torch.equal(frames_FHWC[B:], b_FHWC)
    return Look(first, second, exact)


def rebuilt(bench: Bench, clip: Filmed, a_FHWC: Tensor, b_FHWC: Tensor) -> Tensor:
    """The node's clip, had the model made just the latents of the truth: what is best to hope."""
    inputs = bench.inputs(PrepareStitch, **pair_of(a_FHWC, b_FHWC))
    latent, plan = PrepareStitch.execute(**inputs).args
    mask_T = latent["noise_mask"].amax((0, 1, 3, 4))
    front = int(mask_T.nonzero()[0])  # latents of A that the window sees
    begin = len(a_FHWC) - (1 + 4 * (front - 1))
    frames = 1 + 4 * (len(mask_T) - 1)
    latent = latent | {"samples": bench.encode(clip.frames_FHWC[begin : begin + frames])}
    return frames_of(FinishVideo.execute(latent=latent, plan=plan).args[1])
