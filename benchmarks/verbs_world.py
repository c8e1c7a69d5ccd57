"""What all rows of the verbs' table share: the model, held-out clips, their prompts, the readers.

F frames, H/W pixels, C channels, T latent frames. Clips are frames_FHWC, RGB in 0..1, 8 a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log10
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from patchdit.benchmarks.backdrops import background_likelihood, read_environment
from patchdit.benchmarks.tracking import identify, track
from patchdit.benchmarks.verbs_together import Together
from patchdit.models.blockworld import Blockworld
from patchdit.models.seams import judge, measure
from patchdit.nodes import host
from patchdit.training.blockworld import Scene, render, sample_scene
from patchdit.training.captions import third_person
from patchdit.training.environments import ENVIRONMENTS
from patchdit.training.world_words import ENGLISH

SIZE = 64, 64  # pixels
CONTROL_SHARE = 4  # one clip in so many is also read as the world shows it

Result = TypeVar("Result")


class Filmed(NamedTuple):
    """A held-out clip of the world and its truth."""

    scene: Scene
    frames_FHWC: Tensor
    track_F2: np.ndarray  # pixel x and y of the subject


@dataclass(frozen=True)
class Bench:
    """The model as nodes get it, and how it is asked."""

    parts: Blockworld
    clips: int = 100
    steps: int = 20
    cfg: float | None = None  # None: what each node has by default
    batch: int = 25
    seed: int = 0
    bf16: bool = True  # the network's products, as in world_eval

    @cached_property
    def together(self) -> Together:
        return Together(self.parts.transformer, self.bf16)

    @cached_property
    def model(self) -> Any:
        return host.make_model(self.together, self.parts.vae)  # pyright: ignore[reportArgumentType]

    @cached_property
    def vae(self) -> Any:
        return host.make_vae(self.parts.vae)

    @cached_property
    def clip(self) -> Any:
        return host.make_clip(self.parts.text, self.parts.tokenizer)

    def say(self, text: str) -> list:
        """CONDITIONING of a prompt."""
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def scenes(self, rows: int, frames: int, **given: Any) -> list[Scene]:
        """Scenes with one subject of a held-out triple; every number of `rows` has its own."""
        rng = np.random.default_rng((self.seed, 2025, rows))
        make = lambda: sample_scene(rng, *SIZE, frames, held_out=True, subjects=1, **given)  # noqa: E731
        return [make() for _ in range(self.clips)]

    def inputs(self, node: Any, **given: Any) -> dict[str, Any]:
        """A node's inputs: its own defaults, the model, and what is given."""
        return defaults(node) | {"vae": self.vae, "model": self.model} | given

    def sampling(self, text: str, number: int) -> dict[str, Any]:
        """The inputs of a verb that say how it samples, for clip `number`."""
        seed = self.seed * 1_000_003 + number
        prompts = {"positive": self.say(text), "negative": self.say("")}
        guidance = {} if self.cfg is None else {"cfg": self.cfg}
        return {**prompts, "seed": seed, "steps": self.steps, **guidance}

    def each(self, name: str, works: Sequence[Callable[[], Result]]) -> list[Result]:
        """What the works return, `batch` of them at once."""
        results, began = [], time.monotonic()
        for first in range(0, len(works), self.batch):
            results += self.together.run(works[first : first + self.batch])
            seconds = time.monotonic() - began
            logging.info("%s: %d/%d clips, %.0f s", name, len(results), len(works), seconds)
        return results

    def controls(self, filmed: Sequence[Result]) -> Sequence[Result]:
        """The clips that are also read as the world shows them."""
        return filmed[: max(1, len(filmed) // CONTROL_SHARE)]

    @torch.no_grad()
    def encode(self, frames_FHWC: Tensor) -> Tensor:
        """latent_1CTHW of 1 + 4k frames."""
        return host.encode_frames(self.vae, frames_FHWC, lambda done: None)

    @torch.no_grad()
    def decode(self, latent_1CTHW: Tensor) -> Tensor:
        """frames_FHWC of a latent."""
        return torch.cat(list(host.decode_frames(self.vae, latent_1CTHW)))


def defaults(node: Any) -> dict[str, Any]:
    """What a node's widgets say before anybody touches them."""
    inputs = node.define_schema().inputs
    values = {one.id: getattr(one, "default", None) for one in inputs}
    return {name: value for name, value in values.items() if value is not None}


def film(scene: Scene) -> Filmed:
    """A scene with its truth."""
    clip = render(scene)
    frames_FHWC = torch.from_numpy(clip.frames_FHWC).float() / 255
    return Filmed(scene, frames_FHWC, clip.tracks_NF3[0, :, :2])


def describe(scene: Scene, environment: str | None = None) -> str:
    """What a scene shows, in the commonest words, or shows elsewhere."""
    return f"{thing_of(scene)} {action_of(scene, environment)}"


def thing_of(scene: Scene) -> str:
    """The subject in words."""
    subject = scene.subjects[0]
    return f"{article(subject.colour)} {subject.colour} {subject.kind}"


def action_of(scene: Scene, environment: str | None = None) -> str:
    """What the subject does, where, and what the camera does, in words."""
    moves = third_person(ENGLISH["motion"][scene.subjects[0].motion][0])
    place = ENGLISH["environment"][environment or scene.environment][0]
    return f"{moves} {place}, {ENGLISH['camera'][scene.camera.kind][0]}"


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def moved(scene: Scene, environment: str) -> Scene:
    """The scene with another environment."""
    return replace(scene, environment=environment)


def frames_of(video: Any) -> Tensor:
    """All frames_FHWC of a VIDEO."""
    return video.get_components().images


def levels(frames_FHWC: Tensor) -> np.ndarray:
    """Frames as a file of 8 bits shows them, float32 in 0..1."""
    cv2.setNumThreads(1)
    return (frames_FHWC * 255).round().clamp(0, 255).numpy().astype(np.float32) / 255


def shows_subject(frames_FHWC: Tensor, scene: Scene) -> bool:
    """Whether the frames show the scene's subject: its shape and its colour."""
    return (scene.subjects[0].kind, scene.subjects[0].colour) == subject_of(frames_FHWC)


def subject_of(frames_FHWC: Tensor) -> tuple[str, str]:
    """Shape and colour of the main subject, read from five of the frames."""
    frames = levels(frames_FHWC)
    frames = frames[np.linspace(0, len(frames) - 1, 5).round().astype(int)]
    environment = ENVIRONMENTS.index(read_environment(frames))
    return identify(frames, background_likelihood(frames, environment))


def track_errors(frames_FHWC: Tensor, filmed: Filmed, environment: str | None = None) -> np.ndarray:
    """Pixels between where the subject is and where it should be, per frame."""
    frames, subject = levels(frames_FHWC), filmed.scene.subjects[0]
    place = ENVIRONMENTS.index(environment or filmed.scene.environment)
    path = track(frames, background_likelihood(frames, place), subject.kind, subject.colour)
    return np.hypot(*(path[:, :2] - filmed.track_F2).T)


def seams_pass(
    frames_FHWC: Tensor, seams: Sequence[int], own: Sequence[tuple[int, int]], loop: bool = False
) -> bool:
    """Whether the step at every seam is within the own frames' 95th percentile + 1/255."""
    return judge(measure(frames_FHWC), seams, loop, own).passes


def psnr(one: Tensor, other: Tensor) -> float:
    """Decibels between frames in 0..1, at most 120."""
    return -10 * log10(max(float(torch.mean((one - other) ** 2)), 1e-12))
