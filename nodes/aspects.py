"""The shapes of a frame, by the names that nodes offer."""

from __future__ import annotations

CUSTOM = "width x height"
ASPECTS = {  # width to height
    CUSTOM: None,
    "1:1 square": (1, 1),
    "16:9 landscape": (16, 9),
    "9:16 portrait": (9, 16),
    "4:3 landscape": (4, 3),
    "3:4 portrait": (3, 4),
    "3:2 landscape": (3, 2),
    "2:3 portrait": (2, 3),
    "5:4 landscape": (5, 4),
    "4:5 portrait": (4, 5),
    "7:4 wide": (7, 4),
    "4:7 tall": (4, 7),
    "21:9 cinema": (21, 9),
}


def ratio_of(aspect: str) -> tuple[int, int] | None:
    """Width to height; None where they are given in pixels. ValueError for another name."""
    if aspect not in ASPECTS:
        raise ValueError(f"Setting aspect is {aspect!r}; need one of {', '.join(ASPECTS)}.")
    return ASPECTS[aspect]
