"""A labelled sheet of all that blockworld can show: `training/blockworld.py --sheet FILE.png`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from patchdit.training.abilities import ABILITIES, film_ability
from patchdit.training.ability_captions import describe
from patchdit.training.blockworld import (
    CAMERAS,
    MOTIONS,
    Camera,
    Scene,
    Subject,
    render,
    sample_scene,
)
from patchdit.training.captions import caption
from patchdit.training.environments import ENVIRONMENTS
from patchdit.training.page import FAINT, Page, spread
from patchdit.training.sprites import COLOURS, SUBJECTS

WIDTH, _MARGIN, _GUTTER = 1640, 48, 32
_HEADING, _LABEL = 64, 26  # heights of a section's heading and of a label under a strip
_SIZES = ((64, 64, 17), (96, 64, 17), (64, 96, 17), (112, 64, 17), (64, 64, 33))


class Writer:
    """Fills a page from top to bottom, section by section."""

    def __init__(self, height: int):
        self.page = Page(WIDTH, height)
        self.y = _MARGIN

    def title(self, words: str, below: str) -> None:
        self.page.text(_MARGIN, self.y, words, 30)
        self.page.text(_MARGIN, self.y + 44, below, 14, FAINT)
        self.y += 84

    def heading(self, words: str, below: str) -> None:
        self.page.rule(_MARGIN, self.y, WIDTH - 2 * _MARGIN)
        end = self.page.text(_MARGIN, self.y + 22, words, 20)
        self.page.text(end + 16, self.y + 27, below, 13, FAINT)
        self.y += _HEADING

    def row(self, strips: list[tuple[str, np.ndarray]], scale: float) -> None:
        """Strips of frames beside each other, each with its label below."""
        x, tallest = _MARGIN, 0
        for label, frames in strips:
            width, height = self.page.strip(x, self.y, frames, scale)
            self.page.text(x, self.y + height + 7, label, 13)
            x, tallest = x + width + _GUTTER, max(tallest, height)
        self.y += tallest + _LABEL + 14

    def grid(self, strips: list[tuple[str, np.ndarray]], columns: int, scale: float) -> None:
        for first in range(0, len(strips), columns):
            self.row(strips[first : first + columns], scale)
        self.y += 10


def _portrait(kind: str, colour: str, place: str) -> np.ndarray:
    """One large picture of a subject at rest."""
    subject = Subject(kind, colour, "still", 0.0, 0.1, 0.27, 0.37)
    return render(Scene(96, 96, 1, place, Camera(), (subject,), 4)).frames_FHWC


def _example(seed: int, **given) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return render(sample_scene(rng, subjects=1, **given)).frames_FHWC


def _subjects(writer: Writer) -> None:
    writer.heading("Subjects and colours", "five shapes in eight colours, in six environments")
    places = [ENVIRONMENTS[(i + i // 8 * 2) % len(ENVIRONMENTS)] for i in range(40)]
    for s, kind in enumerate(SUBJECTS):
        row = [
            (f"{colour} {kind}", _portrait(kind, colour, places[8 * s + c]))
            for c, colour in enumerate(COLOURS)
        ]
        writer.row(row, 1.72)
    writer.y += 10


def _motions(writer: Writer) -> None:
    writer.heading("Motions", "relative to the world; first to last frame of two seconds")
    strips = []
    for i, motion in enumerate(MOTIONS):
        triple = (SUBJECTS[i % 5], list(COLOURS)[(3 * i) % 8], motion)
        given = {"triple": triple, "camera": "still", "environment": ENVIRONMENTS[i % 6]}
        strips.append((motion, spread(_example(40 + i, **given), 5)))
    writer.grid(strips, 3, 1.5)


def _cameras(writer: Writer) -> None:
    writer.heading("Cameras", "the subject rests; what moves is the view")
    strips = []
    for i, camera in enumerate(CAMERAS):
        triple = (SUBJECTS[i], list(COLOURS)[(2 * i + 1) % 8], "still")
        given = {"triple": triple, "camera": camera, "environment": ENVIRONMENTS[(i + 2) % 6]}
        strips.append((camera, spread(_example(70 + i, **given), 5)))
    writer.grid(strips, 3, 1.5)


def _environments(writer: Writer) -> None:
    writer.heading("Environments", "painted anew for every clip")
    for place in ENVIRONMENTS:
        frames = []
        for seed in range(7):
            rng = np.random.default_rng((seed, ENVIRONMENTS.index(place)))
            count = 1 + seed % 3
            frames.append(render(sample_scene(rng, 96, 64, 1, subjects=count, environment=place)))
        writer.row([(place, np.concatenate([f.frames_FHWC for f in frames]))], 2.27)
    writer.y += 10


def _sizes(writer: Writer) -> None:
    writer.heading("Sizes and lengths", "width x height x frames at 8 frames a second")
    for i, (width, height, frames) in enumerate(_SIZES):
        rng = np.random.default_rng(200 + i)
        scene = sample_scene(rng, width, height, frames, subjects=1 + i % 3)
        shown = spread(render(scene).frames_FHWC, min(9, int(1400 / (2 * width))))
        words = f'{width}x{height}x{frames}   "{caption(scene, rng, "en")}"'
        writer.row([(words, shown)], 2)
    writer.y += 10


def _abilities(writer: Writer) -> None:
    writer.heading("Abilities", "stories with ground truth: what a model should keep in mind")
    for i, name in enumerate(ABILITIES):
        rng = np.random.default_rng((7, i))
        clip = film_ability(rng, name)
        words = f'{name}   "{describe(clip, rng, "en")}"'
        writer.row([(words, spread(clip.frames_FHWC, 9))], 2.6)


def _height() -> int:
    """Height of the whole page, from the same numbers that its rows are laid out with."""
    below = _LABEL + 14
    rows = [(5, 96 * 1.72), (5, 64 * 1.5), (6, 64 * 2.27), (7, 64 * 2.6)]
    rows += [(1, 2 * height) for _, height, _ in _SIZES]
    total = sum(count * (round(side) + below) for count, side in rows)
    return _MARGIN * 2 + 84 + 6 * _HEADING + 5 * 10 + total


def draw_sheet(path: str | Path) -> None:
    """Write the sheet as a PNG; the same picture every time."""
    writer = Writer(_height())
    writer.title(
        "Blockworld",
        "the procedural world that the mini model learns from; each frame has its truth",
    )
    for section in (_subjects, _motions, _cameras, _environments, _sizes, _abilities):
        section(writer)
    writer.page.save(path)
