"""Blockworld: a seeded procedural world that films simple subjects and knows all about each frame.

World units: 1 is the shorter side of the view at zoom 1; x grows to the right, y downwards; (0, 0)
is the middle of the view half-way through a clip. Time is in seconds. Images are uint8 RGB.
Array letters: F frames, N subjects, H/W pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from patchdit.training.environments import ENVIRONMENTS, HORIZON, paint
from patchdit.training.sprites import COLOURS, SUBJECTS, place

FPS = 8
MOTIONS = (
    "left",
    "right",
    "up",
    "down",
    "still",
    "bouncing",
    "circling",
    "growing",
    "shrinking",
)
CAMERAS = ("still", "pan left", "pan right", "zoom in", "zoom out")
# One motion of every subject and colour is never drawn in training: 40 of 360 triples, 11%.
HELD_OUT = frozenset(
    (subject, colour, motion)
    for s, subject in enumerate(SUBJECTS)
    for c, colour in enumerate(COLOURS)
    for m, motion in enumerate(MOTIONS)
    if (2 * s + 3 * c + m) % len(MOTIONS) == 0
)


@dataclass(frozen=True)
class Subject:
    """One thing that moves: `x`, `y`, `radius` are its state half-way through the clip."""

    kind: str
    colour: str
    motion: str
    x: float
    y: float
    radius: float
    ground: float  # world y where its shadow lies
    # units/s; of circling the path's radius, of bouncing the height, of growing ln(factor) a second
    speed: float = 0.0
    phase: float = 0.0  # of circling and bouncing, in turns

    def at(self, t: float) -> tuple[float, float, float]:
        """World x, y and radius at `t` seconds from the middle of the clip."""
        x, y, r = self.x, self.y, self.radius
        if self.motion in ("left", "right"):
            x += (1 if self.motion == "right" else -1) * self.speed * t
        elif self.motion in ("up", "down"):
            y += (1 if self.motion == "down" else -1) * self.speed * t
        elif self.motion == "bouncing":
            y -= self.speed * abs(np.sin(np.pi * (t + self.phase)))
        elif self.motion == "circling":
            angle = 2 * np.pi * (t / 2 + self.phase)
            x, y = x + self.speed * np.cos(angle), y + self.speed * np.sin(angle)
        elif self.motion in ("growing", "shrinking"):
            r *= np.exp((1 if self.motion == "growing" else -1) * self.speed * t)
            y = self.ground - r
        return x, y, r


@dataclass(frozen=True)
class Camera:
    """How the view moves: pans at `speed` units/s, zooms by exp(speed) a second."""

    kind: str = "still"
    speed: float = 0.0

    def at(self, t: float) -> tuple[float, float, float]:
        """World centre x, y and zoom at `t` seconds from the middle of the clip."""
        sign = 1 if self.kind in ("pan right", "zoom in") else -1
        if self.kind.startswith("pan"):
            return sign * self.speed * t, 0.0, 1.0
        if self.kind.startswith("zoom"):
            return 0.0, 0.0, float(np.exp(sign * self.speed * t))
        return 0.0, 0.0, 1.0


@dataclass(frozen=True)
class Scene:
    """Everything that a clip is drawn from."""

    width: int
    height: int
    frames: int
    environment: str
    camera: Camera
    subjects: tuple[Subject, ...]
    seed: int

    @property
    def unit(self) -> int:
        """Pixels per world unit at zoom 1."""
        return min(self.width, self.height)

    def times(self) -> np.ndarray:
        """Seconds from the middle of the clip, one per frame."""
        return (np.arange(self.frames) - (self.frames - 1) / 2) / FPS

    def triples(self):
        return [(s.kind, s.colour, s.motion) for s in self.subjects]


@dataclass
class Clip:
    """A filmed scene and its ground truth."""

    scene: Scene
    frames_FHWC: np.ndarray  # uint8 RGB
    tracks_NF3: np.ndarray  # pixel x, pixel y, radius in pixels
    masks_NFHW: np.ndarray  # uint8 0..255: what is visible of each subject
    visibility_NF: np.ndarray  # share of each subject's area that is in view and not hidden
    camera_F3: np.ndarray  # world x, world y, zoom


def to_pixels(scene: Scene, camera, x: float, y: float, r: float) -> tuple[float, float, float]:
    """World position and radius to pixel centre and radius, under a camera state (x, y, zoom)."""
    cx, cy, zoom = camera
    scale = scene.unit * zoom
    return (
        scene.width / 2 - 0.5 + (x - cx) * scale,
        scene.height / 2 - 0.5 + (y - cy) * scale,
        r * scale,
    )


def view_bounds(scene: Scene, cameras) -> tuple[float, float, float, float]:
    """World left, top, right, bottom of all that the camera states see, with a small margin."""
    half_w, half_h = scene.width / scene.unit / 2, scene.height / scene.unit / 2
    left = min(x - half_w / z for x, _, z in cameras)
    right = max(x + half_w / z for x, _, z in cameras)
    top = min(y - half_h / z for _, y, z in cameras)
    bottom = max(y + half_h / z for _, y, z in cameras)
    return left - 0.1, top - 0.1, right + 0.1, bottom + 0.1


def film_background(canvas, scene: Scene, camera) -> np.ndarray:
    """What the camera sees of a painted canvas: float32 [H,W,3] in 0..1."""
    cx, cy, zoom = camera
    step = canvas.scale / (scene.unit * zoom)  # canvas pixels per view pixel
    x = (cx - canvas.left) * canvas.scale - 0.5 - (scene.width / 2 - 0.5) * step
    y = (cy - canvas.top) * canvas.scale - 0.5 - (scene.height / 2 - 0.5) * step
    view = cv2.warpAffine(
        canvas.pixels,
        np.float32([[step, 0, x], [0, step, y]]),
        (scene.width, scene.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return view.astype(np.float32) / 255


@lru_cache(maxsize=1)
def _soft_disc() -> np.ndarray:
    axis = np.linspace(-1.15, 1.15, 64, dtype=np.float32)
    return np.clip((1.1 - np.hypot(*np.meshgrid(axis, axis))) / 0.35, 0, 1)


def cast_shadow(frame: np.ndarray, x: float, y: float, radius: float, strength: float) -> None:
    """Darken an ellipse of the ground, in place; pixel centre and half-width."""
    sx, sy = 2.3 * radius / 64, 2.3 * radius * 0.28 / 64
    matrix = np.float32([[sx, 0, x - 31.5 * sx], [0, sy, y - 31.5 * sy]])
    shade = cv2.warpAffine(_soft_disc(), matrix, frame.shape[1::-1])
    frame *= 1 - strength * shade[..., None]


def draw_subjects(frame: np.ndarray, scene: Scene, camera, states) -> np.ndarray:
    """Draw subjects at world `states` [(x, y, r)] onto `frame`, far ones first.

    Returns alphas [N,H,W] float32 in 0..1 of what stays visible of each.
    """
    alphas = np.zeros((len(states), *frame.shape[:2]), np.float32)
    for subject, (x, y, r) in zip(scene.subjects, states, strict=True):
        sx, sy, sr = to_pixels(scene, camera, x, subject.ground, r)
        height = max(subject.ground - y - r, 0.0)
        cast_shadow(frame, sx, sy, sr * (1 - 0.4 * min(height, 1)), 0.5 / (1 + 3 * height))
    for i in np.argsort([s.ground for s in scene.subjects], kind="stable"):
        subject, (x, y, r) = scene.subjects[i], states[i]
        alpha = place(frame, subject.kind, subject.colour, *to_pixels(scene, camera, x, y, r))
        alphas *= 1 - alpha
        alphas[i] = alpha
    return alphas


def render(scene: Scene) -> Clip:
    """Film a scene: every pixel follows from the scene and its seed."""
    cameras = [scene.camera.at(t) for t in scene.times()]
    canvas = paint(
        scene.environment,
        np.random.default_rng(scene.seed),
        view_bounds(scene, cameras),
        scene.unit * 1.25,
    )
    N, F = len(scene.subjects), scene.frames
    frames = np.empty((F, scene.height, scene.width, 3), np.uint8)
    masks = np.empty((N, F, scene.height, scene.width), np.uint8)
    tracks = np.empty((N, F, 3), np.float32)
    for f, (t, camera) in enumerate(zip(scene.times(), cameras, strict=True)):
        frame = film_background(canvas, scene, camera)
        states = [s.at(t) for s in scene.subjects]
        masks[:, f] = draw_subjects(frame, scene, camera, states) * 255
        tracks[:, f] = [to_pixels(scene, camera, *state) for state in states]
        frames[f] = np.clip(frame * 255 + 0.5, 0, 255)
    areas = masks.sum((2, 3)) / 255
    whole = np.array(
        [[_area(s.kind, r) for r in tracks[i, :, 2]] for i, s in enumerate(scene.subjects)]
    )
    visibility = np.clip(areas / np.maximum(whole.reshape(N, F), 1), 0, 1).astype(np.float32)
    return Clip(scene, frames, tracks, masks, visibility, np.float32(cameras))


@lru_cache(maxsize=8)
def _unit_area(kind: str) -> float:
    alpha = place(np.zeros((160, 160, 3), np.float32), kind, "red", 79.5, 79.5, 60.0)
    return float(alpha.sum()) / 3600


def _area(kind: str, radius: float) -> float:
    """Pixels that a whole, unhidden subject covers."""
    return _unit_area(kind) * radius * radius


# ----- drawing scenes at random -----

_SINGLE, _PAIR, _TRIO = (0.16, 0.22), (0.13, 0.17), (0.11, 0.14)


def _sample_subject(rng, kind, colour, motion, radii, x, duration) -> Subject:
    radius = rng.uniform(*radii)
    ground = rng.uniform(HORIZON + 0.18, 0.42)
    y, speed, phase = ground - radius, 0.0, 0.0
    if motion in ("left", "right"):
        speed = rng.uniform(0.16, 0.30)
    elif motion in ("up", "down"):
        speed = rng.uniform(0.14, 0.26)
        ground = max(ground, 0.3)
        y = rng.uniform(-0.06, 0.06)
    elif motion == "bouncing":
        speed, phase = rng.uniform(0.24, 0.36), rng.uniform()
    elif motion == "circling":
        speed, phase = rng.uniform(0.15, 0.21), rng.uniform()
        radius, ground = radius * 0.85, max(ground, 0.36)
        y = rng.uniform(-0.06, 0.04)
    elif motion in ("growing", "shrinking"):
        speed = rng.uniform(0.24, 0.34) * min(1.0, 2.6 / max(duration, 0.1))
        y = ground - radius
    return Subject(kind, colour, motion, x, y, radius, ground, speed, phase)


def _in_view(scene: Scene, subject: Subject) -> bool:
    """Whether most of the subject is in view at the start, the middle and the end."""
    times = scene.times()
    for t in (times[0], 0.0, times[-1]):
        x, y, r = to_pixels(scene, scene.camera.at(t), *subject.at(t))
        if not (-0.1 * r < x < scene.width + 0.1 * r and -0.1 * r < y < scene.height + 0.1 * r):
            return False
    return True


def sample_scene(
    rng: np.random.Generator,
    width: int = 64,
    height: int = 64,
    frames: int = 17,
    *,
    held_out: bool = False,
    subjects: int | None = None,
    camera: str | None = None,
    environment: str | None = None,
    triple: tuple[str, str, str] | None = None,
    kinds: Sequence[str] = SUBJECTS,
    motions: Sequence[str] = MOTIONS,
) -> Scene:
    """Draw a scene at random; what is given stays as given.

    held_out=False never uses a triple of HELD_OUT; held_out=True uses only those. Sizes are pixels,
    multiples of 16; frames are 1 + 4k. Of `kinds` and `motions` those named often come often.
    """
    if width % 16 or height % 16 or width < 32 or height < 32:
        raise ValueError(f"A world of {width}x{height} pixels: sizes are multiples of 16 from 32.")
    count = subjects or int(rng.choice([1, 2, 3], p=[0.7, 0.22, 0.08]))
    radii = (_SINGLE, _PAIR, _TRIO)[count - 1]
    duration = (frames - 1) / FPS
    place_name = environment or str(rng.choice(ENVIRONMENTS))
    half = width / min(width, height) / 2
    seed = int(rng.integers(2**31))
    while True:
        kind = camera or str(rng.choice(CAMERAS, p=[0.4, 0.15, 0.15, 0.15, 0.15]))
        speed = {"s": 0.0, "p": rng.uniform(0.12, 0.22), "z": rng.uniform(0.13, 0.2)}[kind[0]]
        scene = Scene(width, height, frames, place_name, Camera(kind, speed), (), seed)
        chosen = _choose_subjects(
            rng, scene, count, radii, half, duration, held_out, triple, kinds, motions
        )
        if chosen:
            return replace(scene, subjects=chosen)


def _choose_subjects(rng, scene, count, radii, half, duration, held_out, triple, kinds, motions):
    """Subjects in slots from left to right, all in view, or None if this camera leaves no room."""
    slots = (rng.permutation(count) + 0.5) / count * 2 - 1
    chosen = []
    for i in range(count):
        for _ in range(12):
            names = triple if triple and i == 0 else _sample_triple(rng, held_out, kinds, motions)
            x = slots[i] * half * 0.8 + rng.uniform(-0.5, 0.5) * (
                0.5 * half if count == 1 else 0.12
            )
            subject = _sample_subject(rng, *names, radii, x, duration)
            taken = {(s.kind, s.colour) for s in chosen}
            if (subject.kind, subject.colour) not in taken and _in_view(scene, subject):
                chosen.append(subject)
                break
        else:
            return None
    return tuple(chosen)


def _sample_triple(rng, held_out: bool, kinds, motions) -> tuple[str, str, str]:
    while True:
        triple = (
            kinds[rng.integers(len(kinds))],
            list(COLOURS)[rng.integers(len(COLOURS))],
            motions[rng.integers(len(motions))],
        )
        if (triple in HELD_OUT) == held_out:
            return triple


def main() -> None:
    from patchdit.training.sheet import draw_sheet  # it films what this module defines

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", required=True, metavar="FILE.png", help="labelled sheet to draw")
    draw_sheet(parser.parse_args().sheet)


if __name__ == "__main__":
    main()
