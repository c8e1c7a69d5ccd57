"""Inputs and outputs that several nodes share."""

from __future__ import annotations

from .api import io
from .latent_dicts import LONGEST
from .types import BOUNDARY, PlanWire


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


def half_input(tooltip: str):
    """half: of two models that share a run."""
    return io.Combo.Input(
        "half",
        options=["auto", "high", "low"],
        default="auto",
        optional=True,
        tooltip=tooltip,
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


def fps_input():
    return io.Float.Input(
        "fps",
        default=0.0,
        min=0.0,
        max=120.0,
        step=1.0,
        tooltip="Frames per second of images; 0: as the model makes them. A video and a latent"
        " bring their own.",
        advanced=True,
    )


def seconds_input(tooltip: str, default: float = 2.0):
    return io.Float.Input(
        "seconds",
        default=default,
        min=0.01,
        max=LONGEST,
        step=0.125,
        round=0.001,
        tooltip=tooltip,
    )


def denoiser_input():
    """model, where it only denoises what this node prepares."""
    return io.Model.Input("model", tooltip="The model that will denoise the latent.")


def prepared_outputs(tooltip: str) -> list:
    """latent and plan: what a Prepare node gives."""
    return [
        io.Latent.Output(display_name="latent", tooltip=tooltip),
        PlanWire.Output(display_name="plan", tooltip="For Finish Video."),
    ]


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


def window_inputs(usual: str = "a third of the window") -> list:
    """window, context and generate_fps."""
    return [
        io.Int.Input(
            "window",
            default=0,
            min=0,
            max=4097,
            tooltip="Frames that are denoised at once, 1 + 4k (LTX: 1 + 8k); 0: what the model was"
            " trained at.",
            advanced=True,
        ),
        io.Int.Input(
            "context",
            default=0,
            min=0,
            max=4097,
            tooltip=f"Known frames that a window sees, 1 + 4k; 0: {usual}.",
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
