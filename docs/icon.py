"""Draw the pack's icon and banner for the registry: python docs/icon.py

A clip as a block of spacetime patches: its first frame is known, what follows it is still noise.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

FOLDER = Path(__file__).parent
SIDE = 6  # patches along each edge of the block
GAP = 0.07  # between two patches, of a patch
HIGH, MIDDLE, LOW, SUN = "#5b4b8a", "#b75d8a", "#f08c6a", "#ffd75e"
HILL, GRASS, BLUE = "#6c4a63", "#5a8a58", "#4aa8ff"
FRAME = [  # the first frame, row by row from the top: a blue block in a meadow at dusk
    [HIGH, HIGH, HIGH, HIGH, HIGH, HIGH],
    [MIDDLE, MIDDLE, MIDDLE, SUN, SUN, MIDDLE],
    [LOW, LOW, LOW, SUN, SUN, LOW],
    [HILL, BLUE, BLUE, LOW, LOW, HILL],
    [GRASS, BLUE, BLUE, HILL, HILL, HILL],
    [GRASS, GRASS, GRASS, GRASS, GRASS, GRASS],
]
NOISE = 0.75  # how far the last frame has gone from the first towards noise
NIGHT, INK, WORDS = "#161b26", "#f2f5fa", "#9fb0c8"
X, Y = math.cos(math.radians(30)), 0.5  # a unit of the slanting axes on the page


def rgb(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def patch_colour(row: int, column: int, frame: int, light: float, chance: random.Random) -> str:
    """A patch of a face: of the first frame, mixed with grey noise the later it is; lit."""
    mixed = NOISE * frame / (SIDE - 1)
    grey = chance.uniform(60, 225)
    parts = [(1 - mixed) * one + mixed * grey for one in rgb(FRAME[row][column])]
    return "#" + "".join(f"{round(min(light * part, 255)):02x}" for part in parts)


def place(right: float, down: float, back: float) -> tuple[float, float]:
    """A point of the block on the page: three axes, each patch 1 long."""
    return (right + back) * X, down + (right - back) * Y


def block(left: float, top: float, size: float) -> str:
    """The three faces that are seen, within a box `size` wide and high, as polygons."""
    chance = random.Random(4)
    unit = size / (2 * SIDE)
    low, high = GAP / 2, 1 - GAP / 2
    corners = [(low, low), (high, low), (high, high), (low, high)]
    shapes = []
    for i in range(SIDE):
        for j in range(SIDE):
            last = SIDE - 1
            faces = (
                ([place(j + a, i + b, 0) for a, b in corners], (i, j, 0, 1.0)),
                ([place(SIDE, i + b, j + a) for a, b in corners], (i, last, j, 0.72)),
                ([place(j + a, 0, i + b) for a, b in corners], (0, j, i, 1.12)),
            )
            for points, what in faces:
                at = [
                    (left + size / 2 + (x - SIDE * X) * unit, top + (y + SIDE * Y) * unit)
                    for x, y in points
                ]
                text = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
                shapes.append(f'<polygon points="{text}" fill="{patch_colour(*what, chance)}"/>')
    return "\n".join(shapes)


def picture(width: int, height: int, inside: str, corner: int = 0) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">\n'
        f'<rect width="{width}" height="{height}" rx="{corner}" fill="{NIGHT}"/>\n'
        f"{inside}\n</svg>\n"
    )


def line(x: int, y: int, looks: str, words: str) -> str:
    font = "Inter, Segoe UI, Helvetica, Arial, sans-serif"
    return f'<text x="{x}" y="{y}" font-family="{font}" {looks}>{words}</text>'


def icon() -> str:
    """Square, at most 400 pixels, as the registry asks."""
    return picture(400, 400, block(32, 32, 336), corner=64)


def banner() -> str:
    """21:9."""
    inside = [
        block(64, 52, 256),
        line(370, 180, f'font-size="84" font-weight="700" fill="{INK}"', "PatchDiT"),
        line(372, 232, f'font-size="30" fill="{WORDS}"', "extend, stitch, loop, remix:"),
        line(372, 272, f'font-size="30" fill="{WORDS}"', "video by spacetime patches"),
    ]
    return picture(840, 360, "\n".join(inside))


if __name__ == "__main__":
    (FOLDER / "icon.svg").write_text(icon(), encoding="utf-8")
    (FOLDER / "banner.svg").write_text(banner(), encoding="utf-8")
