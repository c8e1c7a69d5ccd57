"""Rows of a chain: one call of ExtendVideo makes ten windows of 16 frames, each from the last 17.

The scenes are such as stay as they are (the camera still; the subject still, bouncing or circling),
so that brightness and colour of the tenth window ought to be those of the clip. Drift is that of
SeamReport: mean luma, and the largest change among mean Cb, mean Cr and saturation, as shares of
the range. The number is the mean over clips of its size, without sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from patchdit.benchmarks.verbs_rows import Row, mean, share
from patchdit.benchmarks.verbs_world import Bench, Filmed, describe, film, frames_of
from patchdit.models.seams import Drift, judge, measure
from patchdit.nodes.extend import ExtendVideo
from patchdit.training.blockworld import HELD_OUT, Scene

GIVEN, NEW, WINDOWS = 17, 16, 10  # frames, frames a window, windows
FRAMES = GIVEN + NEW * WINDOWS
MOST = 0.02  # of the range
STAYING = ("still", "bouncing", "circling")


def chain_rows(bench: Bench) -> list[Row]:
    """Drift of brightness and chroma after ten extensions."""
    clips = [film(scene) for scene in staying_scenes(bench)]

    def work(clip: Filmed, number: int) -> Drift:
        given = bench.sampling(describe(clip.scene), number)
        given |= {"video": clip.frames_FHWC[:GIVEN], "seconds": NEW * WINDOWS / 8}
        videos = ExtendVideo.execute(**bench.inputs(ExtendVideo, **given)).args[1]
        return last_drift(frames_of(videos[0]))

    works = [lambda c=clip, i=i: work(c, i) for i, clip in enumerate(clips)]
    made = bench.each("ten extensions", works)
    some = bench.controls(clips)
    truth = [last_drift(clip.frames_FHWC) for clip in some]
    vae = [last_drift(rebuilt(bench, clip)) for clip in some]
    return rows_of(made, truth, vae)


def staying_scenes(bench: Bench) -> list[Scene]:
    """Held-out scenes in which nothing leaves, comes or changes size."""
    triples = sorted(triple for triple in HELD_OUT if triple[2] in STAYING)
    rng = np.random.default_rng((bench.seed, 2025, 4))
    chosen = [triples[i] for i in rng.integers(len(triples), size=bench.clips)]
    several = replace(bench, clips=1)
    return [
        several.scenes(4_000 + i, FRAMES, camera="still", triple=triple)[0]
        for i, triple in enumerate(chosen)
    ]


def rebuilt(bench: Bench, clip: Filmed) -> Tensor:
    """The clip, and after it what the autoencoder makes of the truth."""
    after = bench.decode(bench.encode(clip.frames_FHWC))[GIVEN:]
    return torch.cat((clip.frames_FHWC[:GIVEN], after))


def last_drift(frames_FHWC: Tensor) -> Drift:
    """How far the last window has moved from the clip."""
    report = judge(measure(frames_FHWC), range(GIVEN, FRAMES, NEW), own=[(0, GIVEN)])
    drift = report.segments[-1].drift
    assert drift is not None
    return drift


def rows_of(made: Sequence[Drift], truth: Sequence[Drift], vae: Sequence[Drift]) -> list[Row]:
    def sizes(drifts: Sequence[Drift], name: str) -> list[float]:
        return [abs(getattr(drift, name)) for drift in drifts]

    def within(drifts: Sequence[Drift]) -> list[bool]:
        return [drift.worst[1] <= MOST for drift in drifts]

    rows = [
        mean(
            f"ten extensions/{name} drift",
            sizes(made, name),
            MOST,
            truth=sizes(truth, name),
            vae=sizes(vae, name),
        )
        for name in ("brightness", "chroma")
    ]
    label = f"ten extensions/clips with both within {MOST:.0%}"
    return [*rows, share(label, within(made), truth=within(truth), vae=within(vae))]
