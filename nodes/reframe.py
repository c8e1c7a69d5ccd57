"""Reframe and PrepareReframe: a clip in another aspect ratio, its surroundings generated."""

from __future__ import annotations

from ..models.reframe import fill_in_windows, window_starts
from .api import io
from .aspects import ASPECTS
from .footage import Footage, last_frame_as_image
from .host.facts import facts_of
from .reframing import CROP, WIDEN, Framing, frame_clip, plan_of
from .sampling import Stoppable
from .sockets import (
    checkpoint_input,
    clip_inputs,
    denoiser_input,
    low_inputs,
    prepared_outputs,
    sampling_inputs,
    verb_outputs,
    window_inputs,
)
from .types import Plan
from .verbs import Sampling, clip_of, finish_plan, journaled, known_latents, window_latents


def frame_inputs() -> list:
    """aspect, how, width, height, the anchors, feather and window."""
    return [
        io.Combo.Input(
            "aspect",
            options=list(ASPECTS),
            default="7:4 wide",
            tooltip="The new shape; or width x height as they are below.",
        ),
        io.Combo.Input(
            "how",
            options=[WIDEN, CROP],
            default=WIDEN,
            tooltip="For a named shape. widen: around the whole clip, what was outside is"
            " generated; crop: inside the clip, nothing is.",
        ),
        io.Int.Input(
            "width",
            default=96,
            min=16,
            max=8192,
            step=2,
            tooltip="Pixels across, for width x height. A side smaller than the clip's crops it.",
        ),
        io.Int.Input(
            "height", default=64, min=16, max=8192, step=2, tooltip="Pixels down, likewise."
        ),
        io.Float.Input(
            "anchor_x",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Where the clip is in a wider frame, or what is kept in a narrower one: 0 left,"
            " 0.5 in the middle, 1 right.",
        ),
        io.Float.Input(
            "anchor_y",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="The same down: 0 top, 0.5 in the middle, 1 bottom.",
        ),
        io.Int.Input(
            "feather",
            default=4,
            min=0,
            max=256,
            tooltip="Pixels outside the clip over which its edge fades into what was generated; the"
            " clip itself stays exact.",
            advanced=True,
        ),
        window_inputs()[0],
    ]


class Reframe(Stoppable, io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_Reframe",
            display_name="Reframe",
            category="PatchDiT/reframe",
            description="Give a clip another aspect ratio: what was outside is generated, or the"
            " clip is cropped. Its own pixels come out exactly as they went in.",
            search_aliases=["outpaint video", "aspect ratio", "uncrop", "widen", "portrait"],
            inputs=[
                *clip_inputs(),
                *sampling_inputs(),
                *frame_inputs(),
                io.Int.Input(
                    "context",
                    default=0,
                    min=0,
                    max=4097,
                    tooltip="Finished frames that a later window of a long clip sees, 1 + 4k; 0: a"
                    " third of the window.",
                    advanced=True,
                ),
                checkpoint_input(),
                *low_inputs(),
            ],
            outputs=verb_outputs(),
        )

    @classmethod
    def execute(cls, video, vae, seed, **settings):
        job, window, context = reframing_of(video, vae, settings)
        plan = plan_of(job, window, context)
        filled = plan.latent if job.cropped else generate(plan, seed, settings, window, context)
        return io.NodeOutput(*finish_plan(plan, filled))


class PrepareReframe(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_PrepareReframe",
            display_name="Prepare Reframe",
            category="PatchDiT/reframe",
            description="The latent in which a sampler of your own generates what was outside a"
            " clip's frame, in one window. Finish Video puts the clip together again.",
            search_aliases=["outpaint video", "aspect ratio", "ksampler", "sampler of my own"],
            inputs=[
                *clip_inputs(),
                denoiser_input(),
                *frame_inputs(),
            ],
            outputs=prepared_outputs("For a sampler: the clip and a noise mask."),
        )

    @classmethod
    def execute(cls, video, vae, **settings):
        job, window, context = reframing_of(video, vae, {**settings, "context": 0})
        plan = plan_of(job, window, context)
        check_one_window(job, plan, window, context)
        return io.NodeOutput(plan.latent, plan)


def check_one_window(job: Framing, plan: Plan, window: int, context: int) -> None:
    """ValueError unless a plan needs a sampler, once."""
    if job.cropped:
        raise ValueError(
            f"The new frame of {job.size[1]}x{job.size[0]} pixels lies inside the clip and leaves"
            " nothing to a sampler: use Reframe, or choose a wider aspect."
        )
    windows = len(window_starts(plan.latent["samples"].shape[2], window, context))
    if windows > 1:
        raise ValueError(
            f"The clip's {job.clip.frames} frames take {windows} windows; make the"
            " setting window longer, or use Reframe."
        )


def reframing_of(video, vae, settings: dict) -> tuple[Framing, int, int]:
    """The framing, and a window's length and context in latent frames."""
    model = settings["model"]
    clip: Footage = clip_of(video, vae, settings)
    window = window_latents(model, settings["window"], stride=clip.stride)
    framing = frame_clip(clip, settings, facts_of(model).fps)
    return framing, window, known_latents(settings, window, clip.stride)


def generate(plan: Plan, seed: int, settings: dict, window: int, context: int) -> dict:
    """The plan's latent with what is outside the clip generated."""
    samples, mask = plan.latent["samples"], plan.latent["noise_mask"]
    sampling = Sampling.of(settings, seed, vae=plan.vae)

    def work(journal):
        fill = sampling.fill(plan.fps, journal)
        still = lambda latent: last_frame_as_image(plan.vae, latent)  # noqa: E731
        return fill_in_windows(samples, mask, window, context, fill, still)

    return {**plan.latent, "samples": journaled(settings["checkpoint"], work)}
