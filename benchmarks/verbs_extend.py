"""Rows of ExtendVideo: a clip of 17 frames goes on, or begins earlier, for 16 frames.

The node itself makes every clip; `verbs_together` only makes their network calls one batch. The
scene is filmed for 33 (forwards) or 34 (backwards) frames and the node is given 17 of them: what it
makes is compared with the others. "track continues" is the mean distance over the first group of
four new frames next to the clip, at most 2 px; over all 16 it is a row of its own. The reader of
shape and colour always says the likeliest, of a melted subject too: the PSNR to the truth, of which
a caption allows several, shows how far that goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from patchdit.benchmarks.verbs_rows import Row, mean, share
from patchdit.benchmarks.verbs_world import (
    Bench,
    Filmed,
    describe,
    film,
    frames_of,
    psnr,
    seams_pass,
    shows_subject,
    track_errors,
)
from patchdit.nodes.extend import ExtendVideo, PrepareExtend
from patchdit.nodes.finish import FinishVideo

GIVEN, NEW, GROUP = 17, 16, 4  # frames
NEAR = 2.0  # pixels
KEPT, SMOOTH, CONTINUES = 0.90, 0.90, 0.85


class Look(NamedTuple):
    """What is measured of one extended clip."""

    kept: bool
    smooth: bool
    near: float  # pixels, mean over the new frames next to the clip
    far: float  # pixels, mean over all new frames
    exact: bool
    psnr: float  # dB, of the new frames to the truth


def extend_rows(bench: Bench) -> list[Row]:
    """Subject, seam and track, forwards and backwards."""
    return [*direction_rows(bench, "forwards"), *direction_rows(bench, "backwards")]


def direction_rows(bench: Bench, direction: str) -> list[Row]:
    forwards = direction == "forwards"
    scenes = bench.scenes(2 if forwards else 3, GIVEN + NEW + (not forwards))
    clips = [film(scene) for scene in scenes]

    def work(clip: Filmed, number: int) -> Look:
        given = bench.sampling(describe(clip.scene), number) | given_to_node(clip, forwards)
        videos = ExtendVideo.execute(**bench.inputs(ExtendVideo, **given)).args[1]
        return look(frames_of(videos[0]), clip, forwards)

    works = [lambda c=clip, i=i: work(c, i) for i, clip in enumerate(clips)]
    made = bench.each(f"extend {direction}", works)
    some = bench.controls(clips)
    truth = [look(shown(clip.frames_FHWC, forwards), clip, forwards) for clip in some]
    vae = [look(rebuilt(bench, clip, forwards), clip, forwards) for clip in some]
    return rows_of(f"extend {direction}", made, truth, vae)


def given_to_node(clip: Filmed, forwards: bool) -> dict[str, Any]:
    """The part of the film that the node is given, and what it is to make."""
    part = slice(0, GIVEN) if forwards else slice(-GIVEN, None)
    direction = "forwards" if forwards else "backwards"
    return {"video": clip.frames_FHWC[part], "direction": direction, "seconds": NEW / 8}


def shown(frames_FHWC: Tensor, forwards: bool) -> Tensor:
    """The frames of the scene that the node's clip shows: backwards, one was filmed before it."""
    return frames_FHWC if forwards else frames_FHWC[1:]


def look(frames_FHWC: Tensor, clip: Filmed, forwards: bool) -> Look:
    """Measures of an extended clip."""
    truth = clip._replace(
        frames_FHWC=shown(clip.frames_FHWC, forwards), track_F2=clip.track_F2[-len(frames_FHWC) :]
    )
    own = (0, GIVEN) if forwards else (NEW, NEW + GIVEN)
    new = slice(GIVEN, None) if forwards else slice(0, NEW)
    errors = track_errors(frames_FHWC, truth)[new]
    near = errors[:GROUP] if forwards else errors[-GROUP:]
    return Look(
        shows_subject(frames_FHWC[new], clip.scene),
        seams_pass(frames_FHWC, [GIVEN if forwards else NEW], [own]),
        float(near.mean()),
        float(errors.mean()),
        torch.equal(frames_FHWC[slice(*own)], truth.frames_FHWC[slice(*own)]),
        psnr(frames_FHWC[new], truth.frames_FHWC[new]),
    )


def rebuilt(bench: Bench, clip: Filmed, forwards: bool) -> Tensor:
    """The node's clip, had the model made just the latents of the truth: what is best to hope."""
    given = given_to_node(clip, forwards)
    latent, plan = PrepareExtend.execute(**bench.inputs(PrepareExtend, **given)).args
    latent = latent | {"samples": bench.encode(clip.frames_FHWC[: GIVEN + NEW])}
    return frames_of(FinishVideo.execute(latent=latent, plan=plan).args[1])


def rows_of(
    name: str, made: Sequence[Look], truth: Sequence[Look], vae: Sequence[Look]
) -> list[Row]:
    def of(measure: str, target: float | None, most: float | None = None) -> Row:
        def hits(looks: Sequence[Look]) -> list[bool]:
            values = np.array([getattr(one, measure) for one in looks])
            return list(values if most is None else values <= most)

        return share(
            f"{name}/{labels[measure]}", hits(made), target, truth=hits(truth), vae=hits(vae)
        )

    labels = {
        "kept": "subject's colour and shape kept",
        "smooth": "seam step within bound",
        "near": f"track continues within {NEAR:g} px",
        "far": f"whole new track within {NEAR:g} px",
        "exact": "given frames bit-exact",
    }

    def numbers(looks: Sequence[Look], measure: str) -> list[float]:
        return [getattr(one, measure) for one in looks]

    return [
        of("kept", KEPT),
        of("smooth", SMOOTH),
        of("near", CONTINUES, NEAR),
        of("far", None, NEAR),
        of("exact", 1.0),
        mean(
            f"{name}/track error next to the clip, px",
            numbers(made, "near"),
            truth=numbers(truth, "near"),
            vae=numbers(vae, "near"),
        ),
        mean(
            f"{name}/PSNR of new frames to the truth, dB",
            numbers(made, "psnr"),
            at_most=False,
            vae=numbers(vae, "psnr"),
        ),
    ]
