"""Seven kinds of small stories with ground truth, for what a video model should keep in mind.

A thing passes behind a pillar unchanged; stays where it was while the camera looks away; a stroke
and a bite stay; balls rebound; solids turn in perspective; a subject survives a cut. World units,
seconds and array letters are those of `blockworld`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from patchdit.training.ability_clip import AbilityClip, choose, cover, duration, standing, told
from patchdit.training.blockworld import Camera, Clip, Scene, Subject, render
from patchdit.training.environments import ENVIRONMENTS, HORIZON
from patchdit.training.lasting_marks import bitten, painted_stroke
from patchdit.training.perspective import Solid, film_room
from patchdit.training.sprites import COLOURS, SUBJECTS

_STONE = (176, 170, 160)


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


def behind_pillar(rng, scene: Scene) -> AbilityClip:
    """A subject moves along the ground, passes behind a pillar and comes out as it went in."""
    motion = choose(rng, ("left", "right"))
    radius, ground = rng.uniform(0.115, 0.135), rng.uniform(0.28, 0.36)
    speed = rng.uniform(0.62, 0.7) / duration(scene)
    kind, colour = choose(rng, SUBJECTS), choose(rng, tuple(COLOURS))
    subject = standing(kind, colour, motion, 0.0, ground, radius, speed=speed)
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
        cover(clip, f, rgb, alpha)
    return told("pillar", clip, turn=scene.frames // 2, pillar_half=half)


def found_again(rng, scene: Scene) -> AbilityClip:
    """A subject at rest leaves the frame as the camera looks away, and is there when it is back."""
    radius, ground = rng.uniform(0.15, 0.19), rng.uniform(0.28, 0.38)
    kind, colour = choose(rng, SUBJECTS), choose(rng, tuple(COLOURS))
    subject = standing(kind, colour, "still", rng.uniform(-0.12, 0.12), ground, radius)
    side = 1 if rng.uniform() < 0.5 else -1
    half = scene.width / scene.unit / 2
    reach = side * (half + radius + side * subject.x + rng.uniform(0.08, 0.2))
    kind_of_move = f"pan {'right' if side > 0 else 'left'} and back"
    camera = ReturningCamera(kind_of_move, 0.0, reach, duration(scene))
    clip = render(replace(scene, camera=camera, subjects=(subject,)))
    return told("return", clip, turn=scene.frames // 2)


def rebounding_balls(rng, scene: Scene) -> AbilityClip:
    """Two equal balls roll towards each other, collide at t = 0 and exchange their speeds."""
    radius, ground = rng.uniform(0.11, 0.13), rng.uniform(0.28, 0.38)
    centre = rng.uniform(-0.05, 0.05)
    left_speed, right_speed = rng.uniform(0.36, 0.56, 2) / duration(scene)
    colours = [str(c) for c in rng.choice(list(COLOURS), 2, replace=False)]
    pair = []
    for colour, side, speed, other in (
        (colours[0], -1, left_speed, -right_speed),
        (colours[1], 1, -right_speed, left_speed),
    ):
        x = centre + side * radius * 0.99
        state = ("ball", colour, "rebounding", x, ground - radius, radius, ground)
        pair.append(Rebounding(*state, speed=float(speed), after=float(other)))
    clip = render(replace(scene, camera=Camera(), subjects=tuple(pair)))
    return told("collision", clip, turn=scene.frames // 2)


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
        kind = choose(rng, ("cube", "cone"))
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
    camera = np.tile(np.array([0, 0, 1], np.float32), (scene.frames, 1))
    clip = Clip(scene, frames, tracks, masks, np.clip(visibility, 0, 1), camera)
    return told("orbit", clip, azimuth=azimuths, turn=scene.frames // 2)


def cut_between_shots(rng, scene: Scene) -> AbilityClip:
    """Two shots of one subject: another place after the cut, the same subject.

    The cut falls where a latent frame begins. facts["second"] is the second shot's scene.
    """
    turn = 1 + 4 * round((scene.frames - 1) / 8)
    kind, colour = choose(rng, SUBJECTS), choose(rng, tuple(COLOURS))
    places = [str(e) for e in rng.choice([e for e in ENVIRONMENTS if e != scene.environment], 1)]
    shots = []
    for place in (scene.environment, *places):
        radius, ground = rng.uniform(0.14, 0.22), rng.uniform(HORIZON + 0.18, 0.4)
        motion = choose(rng, ("still", "left", "right"))
        speed = rng.uniform(0.16, 0.26) * (motion != "still")
        subject = standing(
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
    return told("cut", Clip(shots[0], **both), turn=turn, second=shots[1])


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
    name = name or choose(rng, tuple(ABILITIES))
    if name not in ABILITIES:
        raise ValueError(f"No ability {name!r}; there are {', '.join(ABILITIES)}.")
    seed = int(rng.integers(2**31))
    place = choose(rng, ENVIRONMENTS)
    return ABILITIES[name](rng, Scene(width, height, frames, place, Camera(), (), seed))
