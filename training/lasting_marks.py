"""Ability scenes of marks that stay: a painted stroke and a bite.

World units, seconds and array letters are those of `blockworld`.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from patchdit.training.ability_clip import (
    AbilityClip,
    choose,
    cover,
    duration,
    empty_clip,
    soft_mask,
    standing,
    told,
)
from patchdit.training.blockworld import (
    Camera,
    Clip,
    Scene,
    Subject,
    cast_shadow,
    render,
    to_pixels,
)
from patchdit.training.sprites import COLOURS

_WOOD, _METAL = (164, 108, 60), (206, 210, 216)
_BITES = {"ball": (0.0, 0.0), "cube": (0.0, 0.1), "cone": (0.42, 0.16)}  # how far in and down


def painted_stroke(rng, scene: Scene) -> AbilityClip:
    """A brush draws a coloured stroke; what is painted stays. Masks: the brush, then the stroke."""
    colour = choose(rng, tuple(COLOURS))
    share = np.linspace(0, 1, 200)
    sign = 1 if rng.uniform() < 0.5 else -1
    rise, waves, phase = rng.uniform(0.06, 0.15), rng.uniform(0.5, 1.4), rng.uniform(0, 6.28)
    line_V2 = np.stack(
        [
            sign * (share - 0.5) * rng.uniform(0.6, 0.72),
            -0.02 + rise * np.sin(phase + waves * 2 * np.pi * share),
        ],
        -1,
    )
    thickness = rng.uniform(0.06, 0.085)
    brush = Subject("brush", colour, "painting", 0.0, 0.0, thickness, 0.4)
    clip = empty_clip(replace(scene, camera=Camera(), subjects=(brush,)), 2)
    for f in range(scene.frames):
        done = np.clip(f / (scene.frames - 1) / 0.85, 0, 1)  # the brush rests at the end
        points = line_V2[: max(2, int(done * len(line_V2)))]
        _paint_stroke(clip, f, points, thickness)
    return told("stroke", clip, turn=int((scene.frames - 1) * 0.85), line=line_V2)


def _paint_stroke(clip: Clip, f: int, points_V2: np.ndarray, thickness: float) -> None:
    scene = clip.scene
    camera = clip.camera_F3[f]
    pixels = np.array([to_pixels(scene, camera, x, y, 0)[:2] for x, y in points_V2])
    width = thickness * scene.unit
    tip = pixels[-1]
    colour = np.array(COLOURS[scene.subjects[0].colour], np.float32)

    def shape(points, thick):
        def draw(image, scale):
            fixed = np.round(((np.asarray(points) + 0.5) * scale - 0.5) * 16).astype(np.int32)
            cv2.polylines(image, [fixed], False, 255, max(1, round(thick * scale)), cv2.LINE_8, 4)

        return soft_mask(scene.width, scene.height, draw)

    stroke = shape(pixels, width)
    cover(clip, f, colour * 0.3, shape(pixels, width * 1.35))
    cover(clip, f, colour * 0.95, stroke)
    lean = np.array([0.52, -0.86]) * scene.unit
    parts = [
        ((tip + 0.12 * lean, tip + 0.62 * lean), 0.55, _WOOD),
        ((tip + 0.09 * lean, tip + 0.17 * lean), 0.8, _METAL),
        ((tip, tip + 0.08 * lean), 0.9, tuple(colour * 0.8)),
    ]
    brush = np.zeros_like(stroke)
    for ends, thick, paint_of in parts:
        cover(clip, f, np.float32(paint_of) * 0.35, rim := shape(ends, width * thick + 2))
        cover(clip, f, np.float32(paint_of), shape(ends, width * thick))
        brush = np.maximum(brush, rim)
    clip.masks_NFHW[0, f] = brush * 255
    clip.masks_NFHW[1, f] = stroke * (1 - brush) * 255
    clip.tracks_NF3[0, f] = (*tip, width / 2)
    clip.tracks_NF3[1, f] = (*pixels.mean(0), width / 2)
    clip.visibility_NF[:, f] = 1, (stroke * (1 - brush)).sum() / max(stroke.sum(), 1)


def bitten(rng, scene: Scene) -> AbilityClip:
    """A bite is taken out of a subject, which may go on moving; the bite stays."""
    radius, ground = rng.uniform(0.2, 0.25), rng.uniform(0.34, 0.4)
    motion = str(rng.choice(["still", "left", "right"], p=[0.5, 0.25, 0.25]))
    speed = rng.uniform(0.2, 0.3) / duration(scene) * (motion != "still")
    kind, colour = choose(rng, tuple(_BITES)), choose(rng, tuple(COLOURS))
    subject = standing(kind, colour, motion, 0.0, ground, radius, speed=speed)
    full = replace(scene, camera=Camera(), subjects=(subject,))
    clip, bare = render(full), empty_clip(full, 1)
    turn = round((scene.frames - 1) * rng.uniform(0.3, 0.55))
    side = 1 if rng.uniform() < 0.5 else -1
    y, x = np.mgrid[: scene.height, : scene.width].astype(np.float32)
    for f in range(turn, scene.frames):
        cx, cy, r = clip.tracks_NF3[0, f]
        depth = r * _bite_distance(kind, (x - cx) / r * side, (y - cy) / r)  # in pixels
        flesh = np.clip(0.5 - (depth - 0.13 * r), 0, 1) * clip.masks_NFHW[0, f] / 255
        frame = clip.frames_FHWC[f].astype(np.float32)
        frame += (np.float32((255, 240, 214)) - frame) * flesh[..., None] * 0.8
        clip.frames_FHWC[f] = frame + 0.5
        behind = bare.frames_FHWC[f].astype(np.float32) / 255
        cast_shadow(behind, *to_pixels(scene, clip.camera_F3[f], *_shadow(subject, cx, scene)), 0.5)
        cover(clip, f, behind * 255, np.clip(0.5 - depth, 0, 1) * clip.masks_NFHW[0, f] / 255)
    return told("bite", clip, turn=turn, side=side)


def _shadow(subject: Subject, pixel_x: float, scene: Scene) -> tuple[float, float, float]:
    world_x = (pixel_x - (scene.width / 2 - 0.5)) / scene.unit
    return world_x, subject.ground, subject.radius


def _bite_distance(kind: str, x, y) -> np.ndarray:
    """Distance to three toothed arcs at the right edge, in radii, negative where bitten."""
    left, down = _BITES[kind]
    teeth = ((0.98, -0.62, 0.36), (0.76, -0.16, 0.38), (0.98, 0.3, 0.36))
    return np.minimum.reduce([np.hypot(x - a + left, y - b - down) - r for a, b, r in teeth])
