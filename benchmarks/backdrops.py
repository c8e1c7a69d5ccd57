"""Where a clip plays and how it is filmed, read from its pixels: environment and camera.

F frames, H/W pixels, E environments, S samples. Frames are float32 RGB in 0..1.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from patchdit.training.blockworld import CAMERAS, FPS, Camera, Scene, film_background, view_bounds
from patchdit.training.environments import ENVIRONMENTS, paint

_PLACES = 24  # painted examples of each environment
_SAMPLES = 64  # colours kept for each environment and row
_SPREAD = 0.05  # how far a colour may lie from a sample, in RGB units
_OUTLIER = 0.02  # share of background pixels that no sample explains
_SPEEDS = {"pan": np.arange(0.09, 0.29, 0.01), "zoom": np.arange(0.09, 0.27, 0.01)}
_TRUNCATION = 0.08  # the most that one pixel counts as misaligned: subjects must not rule


@lru_cache(maxsize=8)
def colour_samples(width: int, height: int) -> np.ndarray:
    """Background colours [E,H,S,3] of each environment at each row, some of them in shadow."""
    rng = np.random.default_rng(0)
    samples = np.empty((len(ENVIRONMENTS), height, _SAMPLES, 3), np.float32)
    for e, environment in enumerate(ENVIRONMENTS):
        views = []
        for _ in range(_PLACES):
            scene = Scene(width, height, 1, environment, Camera(), (), 0)
            camera = (rng.uniform(-0.2, 0.2), 0.0, np.exp(rng.uniform(-0.2, 0.2)))
            canvas = paint(environment, rng, view_bounds(scene, [camera]), scene.unit * 1.25)
            views.append(film_background(canvas, scene, camera))
        rows = np.stack(views).transpose(1, 0, 2, 3).reshape(height, -1, 3)
        samples[e] = rows[:, rng.permutation(rows.shape[1])[:_SAMPLES]]
    shadowed = samples[:, :, ::8]
    shadowed *= rng.uniform(0.5, 0.9, (*shadowed.shape[:3], 1))
    return samples


def background_likelihood(frames_FHWC: np.ndarray, environment: int) -> np.ndarray:
    """Log density [F,H,W] of every pixel's colour under one environment at that row."""
    height, width = frames_FHWC.shape[1:3]
    samples_HSC = colour_samples(width, height)[environment]
    scale = -0.5 / _SPREAD**2
    # |c - s|^2 = |c|^2 - 2 c.s + |s|^2, as one matrix product a row
    colours = frames_FHWC.transpose(1, 0, 2, 3).reshape(height, -1, 3)
    distance = (colours**2).sum(-1)[..., None] - 2 * colours @ samples_HSC.transpose(0, 2, 1)
    distance += (samples_HSC**2).sum(-1)[:, None]
    density = np.exp(scale * distance).mean(-1) * (2 * np.pi * _SPREAD**2) ** -1.5
    density = (1 - _OUTLIER) * density + _OUTLIER
    return np.log(density).reshape(height, len(frames_FHWC), width).transpose(1, 0, 2)


def read_environment(frames_FHWC: np.ndarray) -> str:
    """The environment whose colours, row by row, explain the frames best."""
    few = frames_FHWC[:: max(1, len(frames_FHWC) // 3)]
    scores = [background_likelihood(few, e).sum() for e in range(len(ENVIRONMENTS))]
    return ENVIRONMENTS[int(np.argmax(scores))]


def read_camera(frames_FHWC: np.ndarray, subject_FHW: np.ndarray) -> Camera:
    """The camera move that lays the frames' backgrounds best on top of each other.

    subject_FHW is 1 where a subject or its shadow may hide the background. Every speed of every
    move is tried on pairs of frames about 0.75 s apart.
    """
    soft = np.stack([cv2.GaussianBlur(f, (0, 0), 0.8) for f in frames_FHWC])
    gap = max(1, min(6, len(frames_FHWC) // 2))
    pairs = range(0, len(frames_FHWC) - gap, 2 if len(frames_FHWC) > 9 else 1)
    candidates = [Camera()]
    for kind in CAMERAS[1:]:
        candidates += [Camera(kind, float(s)) for s in _SPEEDS[kind.split()[0]]]
    errors = [
        np.mean([_misalignment(soft, subject_FHW, i, i + gap, camera) for i in pairs])
        for camera in candidates
    ]
    return candidates[int(np.argmin(errors))]


def _misalignment(frames, subject, i: int, j: int, camera: Camera) -> float:
    """Mean truncated difference of frame i and frame j moved back to i, outside subjects."""
    height, width = frames.shape[1:3]
    dx, _, zoom = camera.at((j - i) / FPS)
    dx *= min(width, height)
    matrix = np.float32(
        [
            [zoom, 0, (width - 1) / 2 * (1 - zoom) - dx],
            [0, zoom, (height - 1) / 2 * (1 - zoom)],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(frames[j], matrix, (width, height), flags=flags, borderValue=(9, 9, 9))
    hidden = cv2.warpAffine(subject[j], matrix, (width, height), flags=flags)
    seen = (moved[..., 0] < 1.5) & (subject[i] < 0.5) & (hidden < 0.5)
    if seen.sum() < 0.1 * seen.size:
        return _TRUNCATION
    difference = np.abs(moved - frames[i]).mean(-1)[seen]
    return float(np.minimum(difference, _TRUNCATION).mean())
