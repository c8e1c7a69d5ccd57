"""What all verbs share: their sampling settings, filling a window, and plans for a window.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ..models.assembly import with_latent
from ..models.extend import usual_context
from ..models.journal import Journal
from ..models.solvers import shifted_sigmas
from ..models.timeline import STRIDE, pixel_frames
from . import host
from .footage import Footage, read_footage, video_of
from .host.duck import temporal_stride
from .host.facts import facts_of, patch_of, shift_of
from .host.native import check_pair, latent_space, name_of
from .host.shown import SHOWN
from .latent_dicts import (
    FPS,
    PINS,
    SEAMS,
    SIZE,
    Latent,
    latent_length,
    mask_of,
    real_frames,
    rest_of,
    samples_of,
)
from .sampling import begin, open_journal, sample, seed_list
from .types import BOUNDARY, Denoising, Plan
from .video import LazyVideo

ODD = 0x9E3779B97F4A7C15  # far from small seeds: window i of seed s is no window of seed s + 1


@dataclass(frozen=True)
class Sampling:
    """How a verb denoises its windows."""

    model: Any
    positive: list
    negative: list
    seed: int
    steps: int
    cfg: float
    denoise: float = 1.0
    vae: Any | None = None
    model_low: Any | None = None
    boundary: float = BOUNDARY

    @classmethod
    def of(
        cls, settings: dict, seed: int, denoise: float = 1.0, vae: Any | None = None
    ) -> Sampling:
        """From a node's inputs."""
        names = "model", "positive", "negative", "steps", "cfg"
        values = {name: settings[name] for name in names}
        late = {name: settings[name] for name in ("model_low", "boundary") if name in settings}
        return cls(**values, **late, seed=seed, denoise=denoise, vae=vae)

    def sigmas(self, latent_BCTHW: Tensor) -> Tensor:
        """The noise levels for a latent of this size."""
        tokens = patch_of(self.model).tokens(latent_BCTHW.shape[2:])
        return shifted_sigmas(self.steps, shift_of(self.model, tokens), self.denoise)

    def fill(self, fps: float, journal: Journal | None) -> Callable[[Tensor, Tensor], Tensor]:
        """Generates where a mask says so, each window with noise of its own."""
        windows = 0

        def fill(latent_BCTHW: Tensor, mask_B1THW: Tensor) -> Tensor:
            nonlocal windows
            latent: Latent = {"samples": latent_BCTHW, "noise_mask": mask_B1THW, FPS: fps}
            made = self.run(latent, journal, windows)
            windows += 1
            return with_kept(latent, made)

        return fill

    def run(self, latent: Latent, journal: Journal | None = None, window: int = 0) -> Latent:
        return sample(self.begin(latent, window), journal)

    def begin(self, latent: Latent, window: int = 0) -> Denoising:
        """A run before its first step; each window of a verb has noise of its own."""
        prompts, sigmas = (self.positive, self.negative, self.cfg), self.sigmas(samples_of(latent))
        seed = (self.seed + window * ODD) % 2**64
        late = {"vae": self.vae, "model_low": self.model_low, "boundary": self.boundary}
        return begin(self.model, *prompts, latent, sigmas, seed, **late)


def with_kept(latent: Latent, made: Latent) -> Tensor:
    """What was made of a LATENT, with what its mask keeps to the end as it was given."""
    made_BCTHW = made["samples"].float().cpu()
    return torch.where(latent["noise_mask"] == 0, latent["samples"], made_BCTHW)


def journaled(checkpoint: bool, work: Callable[[Journal | None], Any]) -> Any:
    """`work` with a journal where one is wanted, forgotten once all is done."""
    journal = open_journal() if checkpoint else None
    result = work(journal)
    if journal is not None:
        journal.finish()
    return result


def window_latents(model: Any, window: int, name: str = "window", stride: int = STRIDE) -> int:
    """Latent frames of a window of so many frames; 0 takes the model's own length, or just less."""
    if not window:
        return 1 + (facts_of(model).frames - 1) // stride
    try:
        return latent_length(window, stride)
    except ValueError as error:
        raise ValueError(f"Setting {name}: {error}") from None


def known_latents(settings: dict, window: int, stride: int = STRIDE) -> int:
    """Latent frames that a window knows of the one before, by setting context; 0: a third."""
    context = settings["context"]
    if not context:
        return usual_context(window)
    return window_latents(settings["model"], context, "context", stride)


def finish_plan(plan: Plan, latent: Latent) -> tuple[Latent, LazyVideo, str, str]:
    """The whole clip, from the plan's window however it was denoised: what `verb_outputs` lists."""
    made = samples_of(latent).float().cpu()
    planned = samples_of(plan.latent)
    if len(made) > 1:
        raise ValueError(
            f"The latent is a batch of {len(made)} clips; a plan is for one (Latent From Batch"
            " picks one)."
        )
    if made.shape != planned.shape:
        raise ValueError(
            f"The plan is for a latent {tuple(planned.shape)}, got one {tuple(made.shape)}: connect"
            " the latent of the same Prepare node or Pin Frames, through a sampler."
        )
    pinned, own = plan.latent.get(PINS), latent.get(PINS)
    if pinned and own and pinned != own:
        raise ValueError(
            f"The plan is of pins at {pins_in_words(pinned)} and the latent's are at"
            f" {pins_in_words(own)}: connect the plan of the last Pin Frames."
        )
    mask = mask_of(plan.latent, planned.shape)
    if mask is not None:
        made = torch.where(mask == 0, planned, made)
    parts = [made[:, :, part] if isinstance(part, slice) else part for part in plan.parts]
    pieces = with_latent(plan.pieces, made)
    video = video_of(plan.vae, pieces, plan.fps, plan.size, plan.audio)
    rest = {k: value for k, value in rest_of(plan.latent).items() if k not in (PINS, SHOWN)}
    whole: Latent = {FPS: plan.fps, **rest, "samples": torch.cat(parts, 2)}
    stride = temporal_stride(plan.vae)
    if real_frames(whole, stride) == video.get_frame_count() and same_places(plan, stride):
        whole[SEAMS] = plan.seams  # else they count other frames
    if plan.size != tuple(host.spatial_stride(plan.vae) * side for side in made.shape[3:]):
        whole[SIZE] = plan.size
    return whole, video, plan.seams_text, plan.report


def pins_in_words(pins: Sequence[tuple[int, int]]) -> str:
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in pins)


def same_places(plan: Plan, stride: int) -> bool:
    """Whether the parts of a plan's LATENT begin where its pieces do, but for an image remade."""
    if plan.parts == (slice(None),):
        return True
    T = samples_of(plan.latent).shape[2]
    sizes = (len(range(T)[p]) if isinstance(p, slice) else p.shape[2] for p in plan.parts)
    starts = (pixel_frames(latents, stride) for latents in accumulate(sizes))
    shown = accumulate(piece.frames for piece in plan.pieces[:-1])
    return all(0 <= start - frame < 2 for start, frame in zip(starts, shown, strict=False))


def check_models(settings: dict, vae: Any) -> None:
    """ValueError unless the models and the VAE of a node belong together.

    A Prepare node has no cfg: whether a model is half of a pair is its sampler's to know.
    """
    model, channels = settings["model"], host.latent_channels(vae)
    if "cfg" in settings:
        check_pair(model, settings.get("model_low"))
    needed = latent_space(model)[1]
    if channels not in (None, needed):
        raise ValueError(
            f"The VAE makes latents of {channels} channels and the model, {name_of(model)}, takes"
            f" {needed}: connect the autoencoder that belongs to the model."
        )


def clip_of(video: Any, vae: Any, settings: dict, audio: str = "audio") -> Footage:
    """The clip that a verb is given; what cannot denoise it is told before it is encoded."""
    check_models(settings, vae)
    fps = settings["fps"] or facts_of(settings["model"]).fps
    return read_footage(video, vae, fps, settings.get(audio))


def check_choice(name: str, value: str, options: Sequence[str]) -> None:
    """ValueError unless a setting is one of its options: ComfyUI checks them, a script may not."""
    if value not in options:
        raise ValueError(f"Setting {name} is {value!r}; need one of {', '.join(options)}.")


def seeds_of(seeds: str, seed: int) -> list[int]:
    """The seeds of "1, 2, 3", or the one seed where the text is empty."""
    return seed_list(seeds, len(seeds.replace(",", " ").split())) or [seed]
