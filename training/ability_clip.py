"""What ability scenes are made of: a clip with a story, and drawing over what is already filmed.

World units, seconds and array letters are those of `blockworld`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from patchdit.training.blockworld import Clip, Scene, Subject, film_background, view_bounds
from patchdit.training.environments import paint

_FINE = 4  # overlays are drawn at this many times the size and averaged down


@dataclass
class AbilityClip(Clip):
    """A filmed ability: a clip, which ability it shows, and what else is true of it.

    facts: "turn" is the frame at which the story turns (hidden, away, bitten, collided, cut);
    others are named where they are made.
    """

    ability: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def duration(scene: Scene) -> float:
    times = scene.times()
    return float(times[-1] - times[0])


def standing(kind: str, colour: str, motion: str, x: float, ground: float, radius: float, **more):
    return Subject(kind, colour, motion, x, ground - radius, radius, ground, **more)


def choose(rng, names):
    return names[rng.integers(len(names))]


def told(name: str, clip: Clip, **facts) -> AbilityClip:
    return AbilityClip(**vars(clip), ability=name, facts=facts)


def cover(clip: Clip, f: int, rgb: np.ndarray, alpha: np.ndarray) -> None:
    """Lay a picture with alpha [H,W] over frame f; what it hides of the subjects is hidden."""
    frame = clip.frames_FHWC[f].astype(np.float32)
    frame += (rgb - frame) * alpha[..., None]
    clip.frames_FHWC[f] = np.clip(frame + 0.5, 0, 255)
    before = clip.masks_NFHW[:, f].sum((1, 2), dtype=np.float32)
    clip.masks_NFHW[:, f] = clip.masks_NFHW[:, f] * (1 - alpha)
    after = clip.masks_NFHW[:, f].sum((1, 2), dtype=np.float32)
    clip.visibility_NF[:, f] *= after / np.maximum(before, 1)


def soft_mask(width: int, height: int, draw: Callable[[np.ndarray, int], None]) -> np.ndarray:
    """Alpha [H,W] of what `draw(image, scale)` paints with 255 on an enlarged image."""
    fine = np.zeros((height * _FINE, width * _FINE), np.uint8)
    draw(fine, _FINE)
    small = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def empty_clip(scene: Scene, tracked: int) -> Clip:
    """The scene's background alone, with room for the truth of `tracked` things."""
    cameras = [scene.camera.at(t) for t in scene.times()]
    bounds = view_bounds(scene, cameras)
    canvas = paint(scene.environment, np.random.default_rng(scene.seed), bounds, scene.unit * 1.25)
    frames = np.stack([film_background(canvas, scene, c) for c in cameras])
    shape = (tracked, scene.frames)
    return Clip(
        scene,
        np.clip(frames * 255 + 0.5, 0, 255).astype(np.uint8),
        np.zeros((*shape, 3), np.float32),
        np.zeros((*shape, scene.height, scene.width), np.uint8),
        np.ones(shape, np.float32),
        np.float32(cameras),
    )
