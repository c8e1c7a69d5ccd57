"""Cubes and cones in true perspective on a checkered floor, filmed by a camera that orbits them.

Room units: x to the right, y up, z away from a camera at azimuth 0; the floor is y = 0. The camera
looks at a point over the middle of the floor. F frames, N solids, V vertices, H/W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from patchdit.training.sprites import COLOURS

DISTANCE, HEIGHT, AIM = 3.3, 1.6, 0.4  # of the camera; AIM is the height it looks at
_FOCAL = 1.6  # focal length in units of half the view's shorter side
_FINE = 4  # drawn at this many times the size and averaged down
_LIGHT = np.array([-0.55, 0.75, -0.37])  # towards the lamp, fixed to the room
_TILE = 0.7
# sky at the top and at the horizon, light and dark tiles
ROOMS = {
    "meadow": ((120, 180, 232), (216, 236, 246), (196, 220, 150), (140, 184, 104)),
    "sunset": ((104, 66, 120), (250, 190, 140), (204, 146, 122), (150, 92, 88)),
    "night": ((16, 20, 48), (58, 70, 118), (92, 104, 134), (46, 58, 84)),
    "snow": ((164, 184, 206), (224, 232, 240), (240, 244, 248), (196, 208, 224)),
    "underwater": ((84, 170, 178), (36, 110, 132), (196, 186, 148), (150, 142, 112)),
    "city": ((150, 164, 184), (214, 210, 204), (184, 184, 188), (118, 120, 128)),
}


@dataclass(frozen=True)
class Solid:
    """A cube (`size` is half its side) or a cone (`size` is its radius) standing on the floor."""

    kind: str
    colour: str
    x: float
    z: float
    size: float
    turn: float = 0.0  # about its own axis, in radians

    @property
    def height(self) -> float:
        return self.size * (2.0 if self.kind == "cube" else 2.3)

    def faces(self) -> list[np.ndarray]:
        """Polygons [V,3] in room units, each anticlockwise when seen from outside."""
        corners = 4 if self.kind == "cube" else 28
        angles = self.turn + np.arange(corners) / corners * 2 * np.pi
        reach = self.size * (np.sqrt(2) if self.kind == "cube" else 1)
        ring = np.stack([np.cos(angles), 0 * angles, np.sin(angles)], -1) * reach
        base = ring + np.array([self.x, 0, self.z])
        top = base + np.array([0, self.height, 0])
        apex = np.array([self.x, self.height, self.z])
        after = np.roll(np.arange(corners), -1)
        if self.kind == "cone":
            return [np.stack([base[j], base[i], apex]) for i, j in enumerate(after)]
        sides = [np.stack([base[j], base[i], top[i], top[j]]) for i, j in enumerate(after)]
        return [*sides, top[::-1]]


@dataclass(frozen=True)
class View:
    """A camera on its orbit at `azimuth` radians, filming width x height pixels."""

    azimuth: float
    width: int
    height: int

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """The eye's position and rows (right, down, forward) of its rotation."""
        eye = np.array([DISTANCE * np.sin(self.azimuth), HEIGHT, -DISTANCE * np.cos(self.azimuth)])
        forward = np.array([0, AIM, 0]) - eye
        forward /= np.linalg.norm(forward)
        right = np.cross([0, 1, 0], forward)
        right /= np.linalg.norm(right)
        return eye, np.stack([right, np.cross(right, forward), forward])

    @property
    def focal(self) -> float:
        return _FOCAL * min(self.width, self.height) / 2

    def project(self, points_V3: np.ndarray) -> np.ndarray:
        """Pixel x, y and depth [V,3] of room points."""
        eye, axes = self.axes()
        seen = (np.asarray(points_V3, np.float64) - eye) @ axes.T
        x = self.width / 2 - 0.5 + self.focal * seen[:, 0] / seen[:, 2]
        y = self.height / 2 - 0.5 + self.focal * seen[:, 1] / seen[:, 2]
        return np.stack([x, y, seen[:, 2]], -1)


def _empty_room(view: View, room: str) -> np.ndarray:
    """Sky and floor, float32 [H,W,3] in 0..255: each pixel's ray is followed to where it lands."""
    top, horizon, light, dark = (np.array(c, np.float32) for c in ROOMS[room])
    eye, axes = view.axes()
    y, x = np.mgrid[: view.height, : view.width].astype(np.float64)
    rays = np.stack(
        [
            (x - (view.width / 2 - 0.5)) / view.focal,
            (y - (view.height / 2 - 0.5)) / view.focal,
            np.ones_like(x),
        ],
        -1,
    )
    rays = rays @ axes
    down = rays[..., 1] < -1e-3
    reach = np.where(down, -eye[1] / np.minimum(rays[..., 1], -1e-3), 0)
    ground_x, ground_z = eye[0] + reach * rays[..., 0], eye[2] + reach * rays[..., 2]
    odd = (np.floor(ground_x / _TILE) + np.floor(ground_z / _TILE)) % 2 > 0.5
    floor = np.where(odd[..., None], dark, light)
    haze = np.clip((reach - 3.5) / 9, 0, 1)[..., None]
    floor = floor * (1 - haze) + ((light + dark) / 2 * 0.4 + horizon * 0.6) * haze
    rise = np.clip(rays[..., 1:2] / 0.5, 0, 1)
    return np.where(down[..., None], floor, horizon * (1 - rise) + top * rise).astype(np.float32)


def _fill(image: np.ndarray, polygon_V2: np.ndarray, value) -> None:
    cv2.fillConvexPoly(image, np.round(polygon_V2 * 16).astype(np.int32), value, cv2.LINE_8, 4)


def _cast_shadows(frame: np.ndarray, view: View, solids) -> None:
    """Darken the floor where the lamp does not reach, in place."""
    shade = np.zeros(frame.shape[:2], np.uint8)
    for solid in solids:
        points = np.concatenate(solid.faces())
        points = points - _LIGHT * (points[:, 1:2] / _LIGHT[1])
        hull = cv2.convexHull(np.float32(view.project(points)[:, :2]))[:, 0]
        _fill(shade, hull, 255)
    soft = cv2.GaussianBlur(shade, (0, 0), 0.5 * _FINE)
    frame *= 1 - 0.42 * (soft.astype(np.float32) / 255)[..., None]


def _draw_solid(frame: np.ndarray, view: View, solid: Solid) -> np.ndarray:
    """Draw a solid's faces that look at the eye, in place; returns its mask [H,W] uint8 0..1."""
    mask = np.zeros(frame.shape[:2], np.uint8)
    eye, _ = view.axes()
    colour = np.array(COLOURS[solid.colour], np.float64)
    for face in solid.faces():
        normal = np.cross(face[1] - face[0], face[2] - face[0])
        normal /= np.linalg.norm(normal)
        if normal @ (face[0] - eye) >= 0:
            continue
        light = 0.7 + 0.42 * max(0.0, float(normal @ _LIGHT))
        outline = view.project(face)[:, :2]
        _fill(frame, outline, tuple(np.clip(colour * light, 0, 255)))
        _fill(mask, outline, 1)
        if solid.kind == "cube":
            points = np.round(outline * 16).astype(np.int32)
            cv2.polylines(frame, [points], True, tuple(colour * 0.42), _FINE // 2, cv2.LINE_8, 4)
    rim = mask - cv2.erode(mask, np.ones((_FINE + 1, _FINE + 1), np.uint8))
    frame[rim > 0] = colour * 0.3
    return mask


def film_room(solids, azimuths_F, room: str, width: int, height: int):
    """Film solids from every azimuth of an orbit.

    Returns frames uint8 [F,H,W,3], masks uint8 [N,F,H,W] of what is visible, whole areas [N,F] in
    pixels, and tracks float32 [N,F,3]: pixel x, y of each solid's centre and half its height.
    """
    N, F = len(solids), len(azimuths_F)
    frames = np.empty((F, height, width, 3), np.uint8)
    masks = np.zeros((N, F, height, width), np.uint8)
    areas = np.zeros((N, F), np.float32)
    tracks = np.zeros((N, F, 3), np.float32)
    for f, azimuth in enumerate(azimuths_F):
        fine = View(azimuth, width * _FINE, height * _FINE)
        frame = _empty_room(fine, room)
        _cast_shadows(frame, fine, solids)
        centres = fine.project([(s.x, s.height / 2, s.z) for s in solids])
        owner = np.zeros(frame.shape[:2], np.uint8)
        for i in np.argsort(-centres[:, 2]):
            mask = _draw_solid(frame, fine, solids[i])
            areas[i, f] = mask.sum() / _FINE**2
            owner[mask > 0] = i + 1
            radius = fine.focal * solids[i].height / 2 / centres[i, 2]
            tracks[i, f] = (*((centres[i, :2] + 0.5) / _FINE - 0.5), radius / _FINE)
        for i in range(N):
            seen = np.where(owner == i + 1, np.float32(255), np.float32(0))
            masks[i, f] = cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA)
        small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        frames[f] = np.clip(small + 0.5, 0, 255)
    return frames, masks, areas, tracks
