"""Rows of RemixVideo: a clip's environment becomes another one, its subject moves as before.

The node with its own defaults remakes clips of 17 frames by the prompt of the same scene elsewhere.
The environment is read from the pixels; the track is kept where the subject of the prompt is found
within 3 px of the true track in the mean over the frames. The truth is the scene filmed elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from patchdit.benchmarks.backdrops import read_environment
from patchdit.benchmarks.verbs_rows import Row, share
from patchdit.benchmarks.verbs_world import (
    Bench,
    Filmed,
    describe,
    film,
    frames_of,
    levels,
    moved,
    track_errors,
)
from patchdit.nodes.remix import RemixVideo
from patchdit.training.environments import ENVIRONMENTS

FRAMES = 17
NEAR = 3.0  # pixels
RECOGNISED = 0.85


class Look(NamedTuple):
    """What is measured of a remixed clip."""

    there: bool
    kept: bool

    @property
    def both(self) -> bool:
        return self.there and self.kept


def remix_rows(bench: Bench) -> list[Row]:
    """The new environment and the old track."""
    clips = [film(scene) for scene in bench.scenes(7, FRAMES)]
    rng = np.random.default_rng((bench.seed, 2025, 70))
    places = [str(rng.choice([e for e in ENVIRONMENTS if e != c.scene.environment])) for c in clips]

    def work(clip: Filmed, place: str, number: int) -> Look:
        given = bench.sampling(describe(clip.scene, place), number)
        given |= {"video": clip.frames_FHWC, "source": bench.say(describe(clip.scene))}
        video = RemixVideo.execute(**bench.inputs(RemixVideo, **given)).args[1]
        return look(frames_of(video), clip, place)

    works = [lambda c=c, i=i: work(c, places[i], i) for i, c in enumerate(clips)]
    made = bench.each("remix", works)
    some = list(zip(bench.controls(clips), places, strict=False))
    elsewhere = [film(moved(clip.scene, place)).frames_FHWC for clip, place in some]
    truth = [look(frames, *one) for frames, one in zip(elsewhere, some, strict=True)]
    rebuilt = [bench.decode(bench.encode(frames)) for frames in elsewhere]
    vae = [look(frames, *one) for frames, one in zip(rebuilt, some, strict=True)]
    return rows_of(made, truth, vae)


def look(frames_FHWC: Tensor, clip: Filmed, place: str) -> Look:
    there = read_environment(levels(frames_FHWC)) == place
    return Look(there, float(track_errors(frames_FHWC, clip, place).mean()) <= NEAR)


def rows_of(made: Sequence[Look], truth: Sequence[Look], vae: Sequence[Look]) -> list[Row]:
    def of(name: str, measure: str, target: float | None) -> Row:
        columns = [[getattr(one, measure) for one in looks] for looks in (made, truth, vae)]
        return share(f"remix/{name}", columns[0], target, truth=columns[1], vae=columns[2])

    return [
        of(f"new environment recognised, track within {NEAR:g} px", "both", RECOGNISED),
        of("new environment recognised", "there", None),
        of(f"track within {NEAR:g} px", "kept", None),
    ]
