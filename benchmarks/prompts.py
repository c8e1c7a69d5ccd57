"""Prompts that no training caption can equal, with what a clip made from them must show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchdit.training.blockworld import CAMERAS, MOTIONS, Scene, sample_scene
from patchdit.training.captions import ing_form, third_person
from patchdit.training.environments import ENVIRONMENTS
from patchdit.training.sprites import COLOURS, SUBJECTS
from patchdit.training.world_words import CHINESE, ENGLISH

ATTRIBUTES = {
    "colour": tuple(COLOURS),
    "subject": SUBJECTS,
    "motion": MOTIONS,
    "environment": ENVIRONMENTS,
    "camera": CAMERAS,
}
# Sentences that training/captions.py does not build, and in each language one that it does: there
# the held-out combination of subject, colour and motion is what is new.
ENGLISH_FRAMES = (
    "{a_thing} {moves} {place}, {camera}",
    "A video of {a_thing} {moving} {place}. {camera}",
    "There is {a_thing} {place} and it {moves}, {camera}",
    "{camera}. {place} we see {a_thing} {moving}",
    "We are {place}: {a_thing} {moves}. {camera}.",
    "It happens {place}, {camera}, {a_thing} {moves}",
)
CHINESE_FRAMES = (
    "{place}，一个{thing}{moves}，{camera}",
    "一段视频：{thing}{place}{moves}。{camera}",
    "{camera}，我们看到{place}有一个{thing}，它{moves}",
    "一个{thing}{moves}，地点是{place}，{camera}",
)


@dataclass(frozen=True)
class Prompt:
    """A prompt and, by attribute, what its clip must show; attributes it leaves open are absent."""

    text: str
    truth: dict[str, str]

    @property
    def chinese(self) -> bool:
        return any("\u4e00" <= letter <= "\u9fff" for letter in self.text)


def scene_truth(scene: Scene) -> dict[str, str]:
    """The attributes of a scene with one subject."""
    subject = scene.subjects[0]
    return {
        "colour": subject.colour,
        "subject": subject.kind,
        "motion": subject.motion,
        "environment": scene.environment,
        "camera": scene.camera.kind,
    }


def unseen_prompts(count: int, seed: int = 0, chinese: float = 0.3) -> list[Prompt]:
    """Prompts with a held-out triple of subject, colour and motion, a share of them in Chinese."""
    rng = np.random.default_rng((seed, 2024))
    prompts = []
    for _ in range(count):
        truth = scene_truth(sample_scene(rng, held_out=True, subjects=1))
        write = _chinese if rng.uniform() < chinese else _english
        prompts.append(Prompt(write(rng, truth), truth))
    return prompts


def _words(rng, language: dict, truth: dict[str, str]) -> dict[str, str]:
    """One phrase per attribute, the common one half of the time."""
    phrases = {name: language[name][value] for name, value in truth.items()}
    return {n: p[0] if rng.uniform() < 0.5 else str(rng.choice(p)) for n, p in phrases.items()}


def _english(rng, truth: dict[str, str]) -> str:
    words = _words(rng, ENGLISH, truth)
    thing = f"{words['colour']} {words['subject']}"
    text = str(rng.choice(ENGLISH_FRAMES)).format(
        a_thing=f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}",
        moves=third_person(words["motion"]),
        moving=ing_form(words["motion"]),
        place=words["environment"],
        camera=words["camera"],
    )
    return text[0].upper() + text[1:]


def _chinese(rng, truth: dict[str, str]) -> str:
    words = _words(rng, CHINESE, truth)
    return str(rng.choice(CHINESE_FRAMES)).format(
        thing=f"{words['colour']}的{words['subject']}",
        moves=words["motion"],
        place=words["environment"],
        camera=words["camera"],
    )


def load_prompts(path: str | Path) -> list[Prompt]:
    """Prompts from a JSON-lines file: objects with "prompt" and any of the attributes.

    Raises ValueError that names the line when it is not such an object or an attribute's value is
    not a word of the world.
    """
    prompts = []
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        if line.strip():
            prompts.append(_parse(line, f"{path}, line {number}"))
    if not prompts:
        raise ValueError(f"{path} holds no prompts; need one JSON object a line.")
    return prompts


def _parse(line: str, where: str) -> Prompt:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error}); need one object a line.") from error
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise ValueError(f'{where}: need a JSON object with "prompt", a text.')
    truth = {name: row[name] for name in ATTRIBUTES if row.get(name) is not None}
    for name, value in truth.items():
        if value not in ATTRIBUTES[name]:
            raise ValueError(
                f"{where}: {name} {value!r} is not one of {', '.join(ATTRIBUTES[name])}."
            )
    return Prompt(row["prompt"], truth)
