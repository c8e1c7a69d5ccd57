"""LoopVideo and PrepareLoop: a clip that ends where it begins.

F pixel frames.
"""

from __future__ import annotations

from ..models.seams import judge, measure
from .api import io
from .extension import extent_from
from .joining import Joint, fill_joint, one_window, plan_of, prepare_loop
from .sampling import Stoppable
from .sockets import (
    checkpoint_input,
    clip_inputs,
    denoiser_input,
    low_inputs,
    prepared_outputs,
    sampling_inputs,
    seconds_input,
    verb_outputs,
    window_inputs,
)
from .sound import CROSSFADE
from .verbs import Sampling, clip_of, finish_plan, journaled
from .video import LazyVideo


def closing_inputs() -> list:
    """seconds and crossfade."""
    return [
        seconds_input(
            "Length of the closing part, which leads from the clip's last frame to its first.", 1.0
        ),
        io.Float.Input(
            "crossfade",
            default=CROSSFADE,
            min=0.0,
            max=60.0,
            step=0.01,
            tooltip="Seconds over which the clip's sound fades into the silence of the closing"
            " part.",
            advanced=True,
        ),
    ]


class LoopVideo(Stoppable, io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_LoopVideo",
            display_name="Loop Video",
            category="PatchDiT/loop",
            description="Make a clip that plays round without a jump: a new closing part leads from"
            " its last frame to its first. No frame comes twice and nothing plays backwards.",
            search_aliases=["seamless loop", "gif", "perfect loop", "cinemagraph"],
            inputs=[
                *clip_inputs(),
                *sampling_inputs(cfg=2.0),
                *closing_inputs(),
                *window_inputs(),
                checkpoint_input(),
                *low_inputs(),
            ],
            outputs=verb_outputs(),
        )

    @classmethod
    def execute(cls, video, vae, seconds, **settings):
        clip = clip_of(video, vae, settings)
        job = prepare_loop(clip, extent_from(settings, seconds, clip), settings["crossfade"])
        fill = Sampling.of(settings, settings["seed"], vae=vae).fill
        work = lambda journal: fill_joint(job, fill(job.extent.fps, journal))  # noqa: E731
        sequence = journaled(settings["checkpoint"], work)
        latent, looped, seams, report = finish_plan(plan_of(job), sequence)
        return io.NodeOutput(latent, looped, seams, f"{report}\n{wrap_of(job, looped)}")


class PrepareLoop(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_PrepareLoop",
            display_name="Prepare Loop",
            category="PatchDiT/loop",
            description="The latent in which a sampler of your own closes a loop, in one window."
            " Finish Video puts the whole together.",
            search_aliases=["seamless loop", "ksampler", "sampler of my own"],
            inputs=[
                *clip_inputs(),
                denoiser_input(),
                *closing_inputs(),
                *window_inputs(),
            ],
            outputs=prepared_outputs("For a sampler: both ends and a noise mask."),
        )

    @classmethod
    def execute(cls, video, vae, seconds, **settings):
        clip = clip_of(video, vae, settings)
        job = prepare_loop(clip, extent_from(settings, seconds, clip), settings["crossfade"])
        plan = one_window(job, "Loop Video")
        return io.NodeOutput(plan.latent, plan)


def wrap_of(job: Joint, looped: LazyVideo) -> str:
    """The step from the last frame to the first against the clip's own steps, in words."""
    own = job.a.frames
    found = judge(measure(looped.chunks()), [own], loop=True, own=[(0, own)])
    wrap = found.seams[-1]
    passes = "within" if wrap.passes else "above"
    return (
        f"Wrap: the step from the last frame to the first is {wrap.step:.4f} of the range,"
        f" {passes} the bound of {wrap.bound:.4f} (the 95th percentile of the clip's own steps,"
        f" {found.p95:.4f}, + 1/255)."
    )
