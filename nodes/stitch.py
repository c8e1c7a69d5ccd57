"""StitchVideos and PrepareStitch: from one clip to another.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from typing import Any

from ..models.blending import Zone, rising_weights
from .api import io
from .extension import extent_from
from .fitting import FITS
from .footage import Footage, told_source
from .joining import Joint, conform, fill_joint, one_window, plan_of, prepare_bridge
from .sampling import Stoppable
from .sockets import (
    checkpoint_input,
    denoiser_input,
    fps_input,
    low_inputs,
    prepared_outputs,
    sampling_inputs,
    seconds_input,
    verb_outputs,
    window_inputs,
)
from .sound import CROSSFADE
from .transforming import blended_fill, prepare_transform
from .verbs import Sampling, check_choice, clip_of, finish_plan, journaled

MODES = ["bridge", "transform"]


def pair_inputs() -> list:
    """video_a, video_b, vae, fit, crossfade, fps, audio_a and audio_b."""
    kinds = [io.Video, io.Image, io.Latent]
    what = "a video, images that are the frames of one clip, or a latent video made here."
    return [
        io.MultiType.Input("video_a", kinds, tooltip=f"The clip that comes first: {what}"),
        io.MultiType.Input(
            "video_b",
            kinds,
            optional=True,
            tooltip=f"The clip that comes after it: {what} It takes A's size and frame rate.",
        ),
        io.Vae.Input("vae", tooltip="The autoencoder that belongs to the model."),
        io.Combo.Input(
            "fit",
            options=FITS,
            default="crop",
            tooltip="How B is brought to A's size where it has another. crop: fill the frame and"
            " cut off what juts out; pad: black bars; stretch: change its shape.",
        ),
        io.Float.Input(
            "crossfade",
            default=CROSSFADE,
            min=0.0,
            max=60.0,
            step=0.01,
            tooltip="Seconds of sound that fade over where two parts meet. Pictures are not faded.",
            advanced=True,
        ),
        fps_input(),
        io.Audio.Input("audio_a", optional=True, tooltip="Sound of A, in place of its own."),
        io.Audio.Input("audio_b", optional=True, tooltip="Sound of B, in place of its own."),
    ]


class StitchVideos(Stoppable, io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_StitchVideos",
            display_name="Stitch Videos",
            category="PatchDiT/stitch",
            description="Lead from one clip to another: invent the time between them, or turn the"
            " first scene into the second. Frames outside the new part come out exactly as they"
            " went in.",
            search_aliases=["join videos", "transition", "bridge clips", "morph", "blend", "merge"],
            inputs=[
                *pair_inputs(),
                *sampling_inputs(cfg=2.0),
                io.Combo.Input(
                    "mode",
                    options=MODES,
                    default="bridge",
                    tooltip="bridge: new time between A and B. transform: the end of A gradually"
                    " becomes the beginning of B, and the whole is no longer, unless a clip is too"
                    " short for its half.",
                ),
                seconds_input(
                    "bridge: how long the new time between A and B lasts. transform: how long A"
                    " takes to become B, half of it at A's end and half at B's beginning.",
                    1.0,
                ),
                io.Float.Input(
                    "strength",
                    default=0.7,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="transform: how freely the change is painted over the plain blend of"
                    " both clips; low keeps their motion, 1 starts from noise. No effect on a"
                    " bridge.",
                ),
                io.Conditioning.Input(
                    "positive_b",
                    optional=True,
                    tooltip="What B shows, where that is another scene: over the new part the"
                    " prompt moves from positive, which then says what A shows, to this one."
                    " Nothing: positive all along.",
                ),
                *window_inputs(),
                checkpoint_input(),
                *low_inputs(),
            ],
            outputs=verb_outputs(),
        )

    @classmethod
    def execute(cls, video_a, vae, mode, seconds, strength, video_b=None, **settings):
        check_choice("mode", mode, MODES)
        a, b, notes = pair_from(video_a, video_b, vae, settings)
        extent = extent_from(settings, seconds, a, b)
        prepare = prepare_transform if mode == "transform" else prepare_bridge
        job = prepare(a, b, extent, notes=notes, crossfade=settings["crossfade"])
        denoise = strength if job.zone else 1.0
        sampling = Sampling.of(settings, settings["seed"], denoise, vae)
        return io.NodeOutput(*stitch(job, sampling, settings), ui=told_source(a, b))


class PrepareStitch(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_PrepareStitch",
            display_name="Prepare Stitch",
            category="PatchDiT/stitch",
            description="The latent in which a sampler of your own makes the time between two"
            " clips, in one window. Finish Video puts the whole together.",
            search_aliases=["join videos", "bridge clips", "ksampler", "sampler of my own"],
            inputs=[
                *pair_inputs(),
                denoiser_input(),
                seconds_input("How long the new time between A and B lasts.", 1.0),
                *window_inputs(),
            ],
            outputs=prepared_outputs("For a sampler: both ends and a noise mask."),
        )

    @classmethod
    def execute(cls, video_a, vae, seconds, video_b=None, **settings):
        a, b, notes = pair_from(video_a, video_b, vae, settings)
        extent = extent_from(settings, seconds, a, b)
        job = prepare_bridge(a, b, extent, notes=notes, crossfade=settings["crossfade"])
        plan = one_window(job, "Stitch Videos")
        return io.NodeOutput(plan.latent, plan)


def pair_from(
    video_a: Any, video_b: Any, vae: Any, settings: dict
) -> tuple[Footage, Footage, tuple[str, ...]]:
    """A, B in A's size and frame rate, and what was done to B."""
    if video_b is None:
        raise ValueError(
            "Input video_b is not connected: connect the second clip, or use Extend Video to go on"
            " from one."
        )
    a = clip_of(video_a, vae, settings, "audio_a")
    b = clip_of(video_b, vae, settings, "audio_b")
    return a, *conform(b, a, settings["fit"])


def stitch(job: Joint, sampling: Sampling, settings: dict) -> tuple:
    """LATENT, VIDEO, seams and report."""

    def work(journal):
        positive_b, zone = settings.get("positive_b"), job.zone
        if zone is None and positive_b is None:
            return fill_joint(job, sampling.fill(job.extent.fps, journal))
        zone = zone or Zone(None, rising_weights(job.new))
        prompts = positive_b or sampling.positive
        return fill_joint(job, blended_fill(sampling, prompts, zone, job.extent.fps, journal))

    sequence = journaled(settings["checkpoint"], work)
    return finish_plan(plan_of(job), sequence)
