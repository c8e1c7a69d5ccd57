"""How a subject moves through the world, read from its track: the motion whose path fits best.

F frames. World units and seconds as in `patchdit.training.blockworld`.
"""

from __future__ import annotations

import numpy as np

_POSITION, _SIZE = 0.02, 0.08  # spread of a track's position (units) and log radius
_MIN_SPEED, _MIN_GROWTH = 0.09, 0.13  # units/s and ln/s: below half of these a subject is still
_MIN_BOUNCE, _MIN_CIRCLE = 0.12, 0.09  # height and radius in units


def world_track(track_F3: np.ndarray, cameras_F3: np.ndarray, width: int, height: int):
    """World x, y and radius [F,3] of a pixel track under camera states [F,3] (x, y, zoom)."""
    scale = min(width, height) * cameras_F3[:, 2]
    x = (track_F3[:, 0] - (width / 2 - 0.5)) / scale + cameras_F3[:, 0]
    y = (track_F3[:, 1] - (height / 2 - 0.5)) / scale + cameras_F3[:, 1]
    return np.stack([x, y, track_F3[:, 2] / scale], -1)


def read_motion(world_F3: np.ndarray, times_F: np.ndarray) -> str:
    """The motion of a world track: the family of paths with the smallest residual."""
    x, y, r = world_F3.T
    size = np.log(r)
    weight = (_POSITION / _SIZE) ** 2
    flat = {"x": _constant(x), "y": _constant(y), "size": _constant(size) * weight}
    errors = {"still": sum(flat.values())}
    for name, sign in (("left", -1), ("right", 1)):
        errors[name] = flat["y"] + flat["size"] + _slope(x, times_F, sign, _MIN_SPEED)
    for name, sign in (("up", -1), ("down", 1)):
        errors[name] = flat["x"] + flat["size"] + _slope(y, times_F, sign, _MIN_SPEED)
    for name, sign in (("shrinking", -1), ("growing", 1)):
        change = _slope(size, times_F, sign, _MIN_GROWTH) * weight
        errors[name] = flat["x"] + _constant(y + r) + change
    errors["bouncing"] = flat["x"] + flat["size"] + _bounce(y, times_F)
    errors["circling"] = flat["size"] + min(_circle(x, y, times_F, s) for s in (-1, 1))
    return min(errors, key=errors.__getitem__)


def _constant(values: np.ndarray) -> float:
    return float(np.square(values - values.mean()).sum())


def _slope(values, times, sign: int, least: float) -> float:
    """Residual of a straight line of at least slope `least` a second in the given direction."""
    t = times - times.mean()
    slope = (t * values).sum() / max((t * t).sum(), 1e-9)
    return _constant(values - sign * max(sign * slope, least) * t)


def _bounce(y, times) -> float:
    best = np.inf
    for phase in np.arange(20) / 20:
        arc = np.abs(np.sin(np.pi * (times + phase)))
        centred = arc - arc.mean()
        height = max(-(centred * y).sum() / max((centred**2).sum(), 1e-9), _MIN_BOUNCE)
        best = min(best, _constant(y + height * arc))
    return best


def _circle(x, y, times, turn: int) -> float:
    angle = np.pi * times * turn
    path = np.exp(1j * angle) - np.exp(1j * angle).mean()
    spin = (np.conj(path) * (x + 1j * y)).sum() / max((abs(path) ** 2).sum(), 1e-9)
    spin *= max(abs(spin), _MIN_CIRCLE) / max(abs(spin), 1e-9)
    rest = x + 1j * y - spin * path
    return _constant(rest.real) + _constant(rest.imag)
