"""What all verbs share: their sampling settings, filling a window, and plans for a window.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.assembly import with_latent
from ..models.extend import usual_context
from ..models.journal import Journal
from ..models.solvers import shifted_sigmas
from ..models.timeline import STRIDE
from . import host
from .api import io
from .clips import (
    DEFAULT_FPS,
    FPS,
    SEAMS,
    SIZE,
    Latent,
    latent_length,
    mask_of,
    real_frames,
    rest_of,
    samples_of,
)
from .footage import PATCH, video_of
from .host.duck import temporal_stride
from .host.facts import facts_of, shift_of
from .sampling import open_journal, sample, seed_list
from .types import BOUNDARY, Plan
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

    @property
    def models(self) -> dict[str, Any]:
        """What `begin` takes besides the model."""
        return {"vae": self.vae, "model_low": self.model_low, "boundary": self.boundary}

    def sigmas(self, latent_BCTHW: Tensor) -> Tensor:
        """The noise levels for a latent of this size."""
        T, H, W = latent_BCTHW.shape[2:]
        tokens = T * -(-H // PATCH) * -(-W // PATCH)
        return shifted_sigmas(self.steps, shift_of(self.model, tokens), self.denoise)

    def fill(self, fps: float, journal: Journal | None) -> Callable[[Tensor, Tensor], Tensor]:
        """Generates where a mask says so, each window with noise of its own."""
        windows = 0

        def fill(latent_BCTHW: Tensor, mask_B1THW: Tensor) -> Tensor:
            nonlocal windows
            latent = {"samples": latent_BCTHW, "noise_mask": mask_B1THW, FPS: fps}
            filled = self.run(latent, journal, windows)
            windows += 1
            return torch.where(mask_B1THW == 0, latent_BCTHW, filled["samples"].float().cpu())

        return fill

    def run(self, latent: Latent, journal: Journal | None = None, window: int = 0) -> Latent:
        sigmas = self.sigmas(samples_of(latent))
        seed = (self.seed + window * ODD) % 2**64
        prompts = self.positive, self.negative, self.cfg
        return sample(self.model, *prompts, latent, sigmas, seed, journal=journal, **self.models)


def sampling_inputs(cfg: float = 4.0) -> list:
    """model, positive, negative, seed, steps and cfg: the inputs of a verb's run."""
    return [
        io.Model.Input("model", tooltip="Blockworld, or any flow model for video such as Wan."),
        io.Conditioning.Input("positive", tooltip="What the new part shows."),
        io.Conditioning.Input("negative", tooltip="What to avoid in it."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="The noise; another seed gives another take.",
        ),
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Denoising steps."),
        io.Float.Input(
            "cfg",
            default=cfg,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="How strongly to follow the prompts and known frames: 1 ignores the"
            " negative prompt.",
        ),
    ]


def checkpoint_input():
    return io.Boolean.Input(
        "checkpoint",
        default=False,
        tooltip="Keep the run's state on disk while it works: killed at any step, it goes on from"
        " there when queued again, with the identical result.",
        advanced=True,
    )


def low_inputs() -> list:
    """model_low and boundary: the second of two models that share a run."""
    return [
        io.Model.Input(
            "model_low",
            optional=True,
            tooltip="Where a model comes as two files, as Wan 2.2 A14B does: its low-noise half;"
            " the high-noise half goes to model.",
            advanced=True,
        ),
        io.Float.Input(
            "boundary",
            default=BOUNDARY,
            min=0.0,
            max=1.0,
            step=0.005,
            optional=True,
            tooltip="Noise level (sigma) below which model_low takes over; 0: the model's own, for"
            " Wan 2.2 0.875 in text to video and 0.9 in image to video.",
            advanced=True,
        ),
    ]


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


def finish_plan(plan: Plan, latent: Latent) -> tuple[Latent, LazyVideo]:
    """The whole clip as LATENT and VIDEO, from the plan's window however it was denoised."""
    made = samples_of(latent).float().cpu()
    planned = samples_of(plan.latent)
    if made.shape != planned.shape:
        raise ValueError(
            f"The plan is for a latent {tuple(planned.shape)}, got one {tuple(made.shape)}: connect"
            " the latent of the same Prepare node, through a sampler."
        )
    mask = mask_of(plan.latent, planned.shape)
    if mask is not None:
        made = torch.where(mask == 0, planned, made)
    parts = [made[:, :, part] if isinstance(part, slice) else part for part in plan.parts]
    pieces = with_latent(plan.pieces, made)
    video = video_of(plan.vae, pieces, plan.fps, plan.size, plan.audio)
    whole: Latent = {FPS: plan.fps, **rest_of(plan.latent), "samples": torch.cat(parts, 2)}
    shown = real_frames(whole, temporal_stride(plan.vae))
    if shown == video.get_frame_count():  # else they count other frames
        whole[SEAMS] = plan.seams
    if plan.size != tuple(host.spatial_stride(plan.vae) * side for side in made.shape[3:]):
        whole[SIZE] = plan.size
    return whole, video


def fps_input():
    return io.Float.Input(
        "fps",
        default=DEFAULT_FPS,
        min=1.0,
        max=120.0,
        step=1.0,
        tooltip="Frames per second of images; a video and a latent bring their own.",
        advanced=True,
    )


def clip_inputs() -> list:
    """video, vae, fps and audio: the clip that a verb is given."""
    return [
        io.MultiType.Input(
            "video",
            [io.Video, io.Image, io.Latent],
            tooltip="A video, images that are the frames of one clip, or a latent video made here"
            " (which is then not encoded again).",
        ),
        io.Vae.Input("vae", tooltip="The autoencoder that belongs to the model."),
        fps_input(),
        io.Audio.Input(
            "audio", optional=True, tooltip="Sound of the clip, in place of the video's own."
        ),
    ]


def window_inputs() -> list:
    """window, context and generate_fps."""
    return [
        io.Int.Input(
            "window",
            default=0,
            min=0,
            max=4097,
            tooltip="Frames that are denoised at once, 1 + 4k; 0: what the model was trained at.",
            advanced=True,
        ),
        io.Int.Input(
            "context",
            default=0,
            min=0,
            max=4097,
            tooltip="Known frames that a window sees, 1 + 4k; 0: half of the window and at most 17,"
            " or the whole clip where it fits.",
            advanced=True,
        ),
        io.Float.Input(
            "generate_fps",
            default=0.0,
            min=0.0,
            max=120.0,
            step=1.0,
            tooltip="Frames per second at which new frames are made before they take the clip's"
            " rate; 0: what the model was trained at. A latent keeps its own.",
            advanced=True,
        ),
    ]


def verb_outputs(several: bool = False) -> list:
    """latent, video, seams and report; lists where one call makes several takes."""
    return [
        io.Latent.Output(
            display_name="latent", tooltip="The whole clip as a latent.", is_output_list=several
        ),
        io.Video.Output(
            display_name="video",
            tooltip="The whole clip, with its own frames exactly as they were.",
            is_output_list=several,
        ),
        io.String.Output(
            display_name="seams",
            tooltip="Frames at which another part begins, for Seam Report.",
            is_output_list=several,
        ),
        io.String.Output(display_name="report", tooltip="What was done.", is_output_list=several),
    ]


def check_choice(name: str, value: str, options: Sequence[str]) -> None:
    """ValueError unless a setting is one of its options: ComfyUI checks them, a script may not."""
    if value not in options:
        raise ValueError(f"Setting {name} is {value!r}; need one of {', '.join(options)}.")


def seeds_of(seeds: str, seed: int) -> list[int]:
    """The seeds of "1, 2, 3", or the one seed where the text is empty."""
    return seed_list(seeds, len(seeds.replace(",", " ").split())) or [seed]
