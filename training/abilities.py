"""Seven kinds of small stories with ground truth, for what a video model should keep in mind.

A thing passes behind a pillar unchanged; stays where it was while the camera looks away; a stroke
and a bite stay; balls rebound; solids turn in perspective; a subject survives a cut. World units,
seconds and array letters are those of `blockworld`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from patchdit.training.blockworld import (
    Camera,
    Clip,
    Scene,
    Subject,
    cast_shadow,
    film_background,
    render,
    to_pixels,
    view_bounds,
)
from patchdit.training.environments import ENVIRONMENTS, HORIZON, paint
from patchdit.training.perspective import Solid, film_room
from patchdit.training.sprites import COLOURS, SUBJECTS

_FINE = 4  # overlays are drawn at this many times the size and averaged down
_STONE = (176, 170, 160)
_WOOD, _METAL = (164, 108, 60), (206, 210, 216)
_BITES = {"ball": (0.0, 0.0), "cube": (0.0, 0.1), "cone": (0.42, 0.16)}  # how far in and down


@dataclass
class AbilityClip(Clip):
    """A filmed ability: a clip, which ability it shows, and what else is true of it.

    facts: "turn" is the frame at which the story turns (hidden, away, bitten, collided, cut);
    others are named where they are made.
    """

    ability: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReturningCamera(Camera):
    """Looks away to one side by `reach` units and back again within `duration` seconds."""

    reach: float = 0.0
    duration: float = 2.0

    def at(self, t: float) -> tuple[float, float, float]:
        share = 0.5 + t / self.duration  # 0 at the start, 1 at the end
        return self.reach * float(np.sin(np.pi * share)) ** 2, 0.0, 1.0


@dataclass(frozen=True)
class Rebounding(Subject):
    """Rolls at `speed` (signed) until t = 0, then at `after`."""

    after: float = 0.0

    def at(self, t: float) -> tuple[float, float, float]:
        return self.x + (self.speed if t < 0 else self.after) * t, self.y, self.radius


def _duration(scene: Scene) -> float:
    times = scene.times()
    return float(times[-1] - times[0])


def _standing(kind: str, colour: str, motion: str, x: float, ground: float, radius: float, **more):
    return Subject(kind, colour, motion, x, ground - radius, radius, ground, **more)


def _choose(rng, names):
    return names[rng.integers(len(names))]


def _two_colours(rng) -> list[str]:
    return [str(c) for c in rng.choice(list(COLOURS), 2, replace=False)]


def _ability(name: str, clip: Clip, **facts) -> AbilityClip:
    return AbilityClip(**vars(clip), ability=name, facts=facts)


def _cover(clip: Clip, f: int, rgb: np.ndarray, alpha: np.ndarray) -> None:
    """Lay a picture with alpha [H,W] over frame f; what it hides of the subjects is hidden."""
    frame = clip.frames_FHWC[f].astype(np.float32)
    frame += (rgb - frame) * alpha[..., None]
    clip.frames_FHWC[f] = np.clip(frame + 0.5, 0, 255)
    before = clip.masks_NFHW[:, f].sum((1, 2), dtype=np.float32)
    clip.masks_NFHW[:, f] = clip.masks_NFHW[:, f] * (1 - alpha)
    after = clip.masks_NFHW[:, f].sum((1, 2), dtype=np.float32)
    clip.visibility_NF[:, f] *= after / np.maximum(before, 1)


def _soft_mask(width: int, height: int, draw: Callable[[np.ndarray, int], None]) -> np.ndarray:
    """Alpha [H,W] of what `draw(image, scale)` paints with 255 on an enlarged image."""
    fine = np.zeros((height * _FINE, width * _FINE), np.uint8)
    draw(fine, _FINE)
    small = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def behind_pillar(rng, scene: Scene) -> AbilityClip:
    """A subject moves along the ground, passes behind a pillar and comes out as it went in."""
    motion = _choose(rng, ("left", "right"))
    radius, ground = rng.uniform(0.115, 0.135), rng.uniform(0.28, 0.36)
    speed = rng.uniform(0.62, 0.7) / _duration(scene)
    kind, colour = _choose(rng, SUBJECTS), _choose(rng, tuple(COLOURS))
    subject = _standing(kind, colour, motion, 0.0, ground, radius, speed=speed)
    clip = render(replace(scene, camera=Camera(), subjects=(subject,)))
    half = radius * rng.uniform(1.15, 1.35)
    y, x = np.mgrid[: scene.height, : scene.width].astype(np.float32)
    column = np.abs(x - (scene.width / 2 - 0.5)) / (half * scene.unit)  # 1 at the pillar's edges
    foot = scene.height / 2 + (ground + 0.03) * scene.unit
    round_ = 1.12 - 0.5 * ((x - (scene.width / 2 - 0.5)) / (half * scene.unit) + 0.35) ** 2
    rings = 1 - 0.12 * (np.mod(y / scene.unit, 0.17) < 0.017)
    rgb = np.array(_STONE, np.float32) * (np.clip(round_, 0.35, 1.15) * rings)[..., None]
    edge = half * scene.unit
    alpha = np.clip((1 - column) * edge + 0.5, 0, 1) * np.clip(foot - y + 0.5, 0, 1)
    for f in range(scene.frames):
        _cover(clip, f, rgb, alpha)
    return _ability("pillar", clip, turn=scene.frames // 2, pillar_half=half)


def found_again(rng, scene: Scene) -> AbilityClip:
    """A subject at rest leaves the frame as the camera looks away, and is there when it is back."""
    radius, ground = rng.uniform(0.15, 0.19), rng.uniform(0.28, 0.38)
    kind, colour = _choose(rng, SUBJECTS), _choose(rng, tuple(COLOURS))
    subject = _standing(kind, colour, "still", rng.uniform(-0.12, 0.12), ground, radius)
    side = 1 if rng.uniform() < 0.5 else -1
    half = scene.width / scene.unit / 2
    reach = side * (half + radius + side * subject.x + rng.uniform(0.08, 0.2))
    kind_of_move = f"pan {'right' if side > 0 else 'left'} and back"
    camera = ReturningCamera(kind_of_move, 0.0, reach, _duration(scene))
    clip = render(replace(scene, camera=camera, subjects=(subject,)))
    return _ability("return", clip, turn=scene.frames // 2)


def painted_stroke(rng, scene: Scene) -> AbilityClip:
    """A brush draws a coloured stroke; what is painted stays. Masks: the brush, then the stroke."""
    colour = _choose(rng, tuple(COLOURS))
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
    clip = _empty_clip(replace(scene, camera=Camera(), subjects=(brush,)), 2)
    for f in range(scene.frames):
        done = np.clip(f / (scene.frames - 1) / 0.85, 0, 1)  # the brush rests at the end
        points = line_V2[: max(2, int(done * len(line_V2)))]
        _paint_stroke(clip, f, points, thickness)
    return _ability("stroke", clip, turn=int((scene.frames - 1) * 0.85), line=line_V2)


def _empty_clip(scene: Scene, tracked: int) -> Clip:
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

        return _soft_mask(scene.width, scene.height, draw)

    stroke = shape(pixels, width)
    _cover(clip, f, colour * 0.3, shape(pixels, width * 1.35))
    _cover(clip, f, colour * 0.95, stroke)
    lean = np.array([0.52, -0.86]) * scene.unit
    parts = [
        ((tip + 0.12 * lean, tip + 0.62 * lean), 0.55, _WOOD),
        ((tip + 0.09 * lean, tip + 0.17 * lean), 0.8, _METAL),
        ((tip, tip + 0.08 * lean), 0.9, tuple(colour * 0.8)),
    ]
    brush = np.zeros_like(stroke)
    for ends, thick, paint_of in parts:
        _cover(clip, f, np.float32(paint_of) * 0.35, rim := shape(ends, width * thick + 2))
        _cover(clip, f, np.float32(paint_of), shape(ends, width * thick))
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
    speed = rng.uniform(0.2, 0.3) / _duration(scene) * (motion != "still")
    kind, colour = _choose(rng, tuple(_BITES)), _choose(rng, tuple(COLOURS))
    subject = _standing(kind, colour, motion, 0.0, ground, radius, speed=speed)
    full = replace(scene, camera=Camera(), subjects=(subject,))
    clip, bare = render(full), _empty_clip(full, 1)
    turn = round((scene.frames - 1) * rng.uniform(0.3, 0.55))
    side = 1 if rng.uniform() < 0.5 else -1
    y, x = np.mgrid[: scene.height, : scene.width].astype(np.float32)
    for f in range(turn, scene.frames):
        cx, cy, r = clip.tracks_NF3[0, f]
        depth = (
            _bite_distance(kind, (x - cx) / r * side, (y - cy) / r) * r
        )  # pixels, negative in the bite
        flesh = np.clip(0.5 - (depth - 0.13 * r), 0, 1) * clip.masks_NFHW[0, f] / 255
        frame = clip.frames_FHWC[f].astype(np.float32)
        frame += (np.float32((255, 240, 214)) - frame) * flesh[..., None] * 0.8
        clip.frames_FHWC[f] = frame + 0.5
        behind = bare.frames_FHWC[f].astype(np.float32) / 255
        cast_shadow(behind, *to_pixels(scene, clip.camera_F3[f], *_shadow(subject, cx, scene)), 0.5)
        _cover(clip, f, behind * 255, np.clip(0.5 - depth, 0, 1) * clip.masks_NFHW[0, f] / 255)
    return _ability("bite", clip, turn=turn, side=side)


def _shadow(subject: Subject, pixel_x: float, scene: Scene) -> tuple[float, float, float]:
    world_x = (pixel_x - (scene.width / 2 - 0.5)) / scene.unit
    return world_x, subject.ground, subject.radius


def _bite_distance(kind: str, x, y) -> np.ndarray:
    """Distance to three toothed arcs at the right edge, in radii, negative where bitten."""
    left, down = _BITES[kind]
    teeth = ((0.98, -0.62, 0.36), (0.76, -0.16, 0.38), (0.98, 0.3, 0.36))
    return np.minimum.reduce([np.hypot(x - a + left, y - b - down) - r for a, b, r in teeth])


def rebounding_balls(rng, scene: Scene) -> AbilityClip:
    """Two equal balls roll towards each other, collide at t = 0 and exchange their speeds."""
    radius, ground = rng.uniform(0.11, 0.13), rng.uniform(0.28, 0.38)
    duration, centre = _duration(scene), rng.uniform(-0.05, 0.05)
    left_speed, right_speed = rng.uniform(0.36, 0.56, 2) / duration
    colours = _two_colours(rng)
    pair = []
    for colour, side, speed, other in (
        (colours[0], -1, left_speed, -right_speed),
        (colours[1], 1, -right_speed, left_speed),
    ):
        x = centre + side * radius * 0.99
        state = ("ball", colour, "rebounding", x, ground - radius, radius, ground)
        pair.append(Rebounding(*state, speed=float(speed), after=float(other)))
    clip = render(replace(scene, camera=Camera(), subjects=tuple(pair)))
    return _ability("collision", clip, turn=scene.frames // 2)


def orbited_solids(rng, scene: Scene) -> AbilityClip:
    """Cubes and cones on a checkered floor, in true perspective, with a camera that orbits them.

    facts["azimuth"] is the camera's angle [F] in radians.
    """
    count = int(rng.integers(1, 4))
    start = rng.uniform(0, 2 * np.pi)
    colours = rng.choice(list(COLOURS), count, replace=False)
    solids = []
    for i, colour in enumerate(colours):
        angle = start + 2 * np.pi * i / count
        away = 0.0 if count == 1 else rng.uniform(0.62, 0.72)
        size = rng.uniform(0.5, 0.58) if count == 1 else rng.uniform(0.34, 0.42)
        kind = _choose(rng, ("cube", "cone"))
        at = (away * np.cos(angle), away * np.sin(angle))
        solids.append(Solid(kind, str(colour), *at, size, rng.uniform(0, 1.57)))
    rate = rng.uniform(0.4, 0.6) * (1 if rng.uniform() < 0.5 else -1)
    azimuths = rng.uniform(0, 6.28) + rate * scene.times()
    room = film_room(solids, azimuths, scene.environment, scene.width, scene.height)
    frames, masks, areas, tracks = room
    move = f"orbit {'right' if rate > 0 else 'left'}"
    scene = replace(
        scene,
        camera=Camera(move, abs(rate)),
        subjects=tuple(Subject(s.kind, s.colour, "still", s.x, s.z, s.size, 0) for s in solids),
    )
    visibility = masks.sum((2, 3), dtype=np.float32) / 255 / np.maximum(areas, 1)
    camera = np.tile(np.float32((0, 0, 1)), (scene.frames, 1))
    clip = Clip(scene, frames, tracks, masks, np.clip(visibility, 0, 1), camera)
    return _ability("orbit", clip, azimuth=azimuths, turn=scene.frames // 2)


def cut_between_shots(rng, scene: Scene) -> AbilityClip:
    """Two shots of one subject: another place after the cut, the same subject.

    The cut falls where a latent frame begins. facts["second"] is the second shot's scene.
    """
    turn = 1 + 4 * round((scene.frames - 1) / 8)
    kind, colour = _choose(rng, SUBJECTS), _choose(rng, tuple(COLOURS))
    places = [str(e) for e in rng.choice([e for e in ENVIRONMENTS if e != scene.environment], 1)]
    shots = []
    for place in (scene.environment, *places):
        radius, ground = rng.uniform(0.14, 0.22), rng.uniform(HORIZON + 0.18, 0.4)
        motion = _choose(rng, ("still", "left", "right"))
        speed = rng.uniform(0.16, 0.26) * (motion != "still")
        subject = _standing(
            kind, colour, motion, rng.uniform(-0.12, 0.12), ground, radius, speed=speed
        )
        seed = int(rng.integers(2**31))
        shots.append(
            replace(scene, environment=place, camera=Camera(), subjects=(subject,), seed=seed)
        )
    first, second = (render(shot) for shot in shots)
    both = {
        name: np.concatenate([getattr(first, name)[:, :turn], getattr(second, name)[:, turn:]], 1)
        for name in ("tracks_NF3", "masks_NFHW", "visibility_NF")
    }
    for name in ("frames_FHWC", "camera_F3"):
        both[name] = np.concatenate([getattr(first, name)[:turn], getattr(second, name)[turn:]])
    return _ability("cut", Clip(shots[0], **both), turn=turn, second=shots[1])


ABILITIES: dict[str, Callable[[np.random.Generator, Scene], AbilityClip]] = {
    "pillar": behind_pillar,
    "return": found_again,
    "stroke": painted_stroke,
    "bite": bitten,
    "collision": rebounding_balls,
    "orbit": orbited_solids,
    "cut": cut_between_shots,
}


def film_ability(
    rng: np.random.Generator,
    name: str | None = None,
    width: int = 64,
    height: int = 64,
    frames: int = 17,
) -> AbilityClip:
    """Film an ability drawn at random, or the named one, in a random place.

    Sizes are pixels, multiples of 16; frames are at least 9: a story needs time.
    """
    if frames < 9:
        raise ValueError(f"An ability scene of {frames} frames: needs at least 9.")
    if width % 16 or height % 16 or min(width, height) < 32:
        raise ValueError(f"A world of {width}x{height} pixels: sizes are multiples of 16 from 32.")
    name = name or _choose(rng, tuple(ABILITIES))
    if name not in ABILITIES:
        raise ValueError(f"No ability {name!r}; there are {', '.join(ABILITIES)}.")
    seed = int(rng.integers(2**31))
    place = _choose(rng, ENVIRONMENTS)
    return ABILITIES[name](rng, Scene(width, height, frames, place, Camera(), (), seed))
