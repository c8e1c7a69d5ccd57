"""Rows of Storyboard: is the subject on both sides of a cut the same?

Two shots of 17 frames, a cut between them, one subject of a held-out triple in two environments;
the node says the subject in both prompts and begins both with one noise. "Same" is that the reader
finds one colour and one shape in both shots, whatever was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from patchdit.benchmarks.verbs_rows import Row, share
from patchdit.benchmarks.verbs_world import (
    Bench,
    action_of,
    defaults,
    film,
    frames_of,
    moved,
    subject_of,
    thing_of,
)
from patchdit.nodes.storyboard import Shot, Storyboard
from patchdit.standalone.host import Session, use_session
from patchdit.training.blockworld import Scene
from patchdit.training.environments import ENVIRONMENTS

FRAMES = 17  # of a shot
SAME = 0.90


class Look(NamedTuple):
    """What is measured of a film of two shots."""

    same: bool
    asked: bool


def story_rows(bench: Bench) -> list[Row]:
    """The subject across a cut."""
    scenes = bench.scenes(8, FRAMES)
    rng = np.random.default_rng((bench.seed, 2025, 80))
    pairs = [(s, moved(s, str(rng.choice(others(s.environment))))) for s in scenes]

    def work(shots: tuple[Scene, Scene], number: int) -> Look:
        given = bench.sampling("", number) | {"clip": bench.clip, "subject": thing_of(shots[0])}
        given |= {"shots": shot_list(shots), "negative": "", "name": f"film {number}"}
        del given["positive"]
        video = Storyboard.execute(**bench.inputs(Storyboard, **given)).args[1]
        return look(frames_of(video), shots[0])

    works = [lambda p=pair, i=i: work(p, i) for i, pair in enumerate(pairs)]
    with TemporaryDirectory() as folder, use_session(Session(output_directory=Path(folder))):
        made = bench.each("storyboard", works)
    filmed = [torch.cat([film(s).frames_FHWC for s in pair]) for pair in bench.controls(pairs)]
    truth = [look(frames, scene) for frames, scene in zip(filmed, scenes, strict=False)]
    rebuilt = [torch.cat([bench.decode(bench.encode(s)) for s in f.split(FRAMES)]) for f in filmed]
    vae = [look(frames, scene) for frames, scene in zip(rebuilt, scenes, strict=False)]
    return rows_of(made, truth, vae)


def others(environment: str) -> list[str]:
    return [place for place in ENVIRONMENTS if place != environment]


def shot_list(scenes: Sequence[Scene]) -> tuple:
    """SHOTS, each of which cuts; their prompts go on with the subject's sentence."""
    shots: tuple = ()
    for scene in scenes:
        given = {"prompt": action_of(scene), "seconds": FRAMES / 8, "previous": shots}
        (shots,) = Shot.execute(**defaults(Shot) | given).args
    return shots


def look(frames_FHWC: Tensor, scene: Scene) -> Look:
    """Measures of a film of two shots of a subject."""
    one, other = (subject_of(part) for part in frames_FHWC.split(FRAMES))
    asked = scene.subjects[0].kind, scene.subjects[0].colour
    return Look(one == other, one == other == asked)


def rows_of(made: Sequence[Look], truth: Sequence[Look], vae: Sequence[Look]) -> list[Row]:
    def of(name: str, measure: str, target: float | None) -> Row:
        columns = [[getattr(one, measure) for one in looks] for looks in (made, truth, vae)]
        return share(f"storyboard/{name}", columns[0], target, truth=columns[1], vae=columns[2])

    return [
        of("same subject across the cut", "same", SAME),
        of("both shots show the subject asked for", "asked", None),
    ]
