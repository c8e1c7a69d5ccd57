"""ExtendVideo and PrepareExtend: a clip goes on, or begins earlier.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from functools import partial

from ..models.extend import extend_backwards, extend_forwards
from ..models.journal import Journal
from . import host
from .api import io
from .drift import drift_watch
from .extension import (
    Extension,
    Extent,
    extent_from,
    plan_of,
    prepare_extension,
    shortened,
)
from .footage import Footage, last_frame_as_image, told_source
from .latent_dicts import FPS
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
from .verbs import Sampling, check_choice, clip_of, finish_plan, journaled, seeds_of

DIRECTIONS = ["forwards", "backwards"]
USUAL_CONTEXT = "half of it and at most 17, or less where one window then makes all"


def extent_inputs() -> list:
    """direction, seconds and from_frame."""
    return [
        io.Combo.Input(
            "direction",
            options=DIRECTIONS,
            default="forwards",
            tooltip="forwards: what happens after the clip; backwards: what led to it.",
        ),
        seconds_input("Length of the new part."),
        io.Int.Input(
            "from_frame",
            default=-1,
            min=-1,
            max=1_000_000,
            tooltip="Forwards: go on after this frame and drop those behind it (another take of a"
            " bad end). Backwards: keep the clip from this frame on. -1: the whole clip.",
        ),
    ]


class ExtendVideo(Stoppable, io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_ExtendVideo",
            display_name="Extend Video",
            category="PatchDiT/extend",
            description="Make a clip longer, forwards or backwards in time, in as many windows as"
            " it takes. The clip's own frames come out exactly as they went in.",
            search_aliases=["extend", "continue video", "longer video", "prequel", "backwards"],
            inputs=[
                *clip_inputs(),
                *sampling_inputs(cfg=2.0),
                *extent_inputs(),
                io.String.Input(
                    "seeds",
                    default="",
                    tooltip="Several takes in one go: seeds such as 1, 2, 3. Several beginnings for"
                    " one ending, or endings for one beginning. Empty: the one seed above.",
                    advanced=True,
                ),
                *window_inputs(USUAL_CONTEXT),
                io.Float.Input(
                    "drift_limit",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Stop after a window whose brightness or colour has moved further from"
                    " the clip's than this share of the whole range; 0: never.",
                    advanced=True,
                ),
                checkpoint_input(),
                *low_inputs(),
            ],
            outputs=verb_outputs(several=True),
        )

    @classmethod
    def execute(cls, video, vae, direction, seconds, from_frame, seeds, seed, **settings):
        whole = clip_of(video, vae, settings)
        clip = kept_of(whole, direction, from_frame)
        job = prepare_extension(clip, extent_of(clip, direction, seconds, settings))
        each = seeds_of(seeds, seed)

        def work(journal):
            return takes_of(job, each, settings, journal)

        takes = journaled(settings["checkpoint"], work)
        outputs = map(list, zip(*takes, strict=True))
        return io.NodeOutput(*outputs, ui=told_source(whole))


class PrepareExtend(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_PrepareExtend",
            display_name="Prepare Extend",
            category="PatchDiT/extend",
            description="The latent in which a sampler of your own makes a clip longer, in one"
            " window. Finish Video puts the clip together again.",
            search_aliases=["extend", "continue video", "ksampler", "sampler of my own"],
            inputs=[
                *clip_inputs(),
                denoiser_input(),
                *extent_inputs(),
                *window_inputs(USUAL_CONTEXT),
            ],
            outputs=prepared_outputs("For a sampler: the known part and a noise mask."),
        )

    @classmethod
    def execute(cls, video, vae, direction, seconds, from_frame, **settings):
        whole = clip_of(video, vae, settings)
        clip = kept_of(whole, direction, from_frame)
        job = prepare_extension(clip, extent_of(clip, direction, seconds, settings))
        if len(job.lengths()) > 1:
            raise ValueError(
                f"Setting seconds is {seconds:g}, which takes {len(job.lengths())} windows; make it"
                " shorter or the window longer, or use Extend Video."
            )
        plan = plan_of(job)
        return io.NodeOutput(plan.latent, plan)


def takes_of(job, seeds: list[int], settings: dict, journal) -> list[tuple]:
    """A take for each seed; none after one that was told to stop."""
    first, *others = seeds
    takes = [extend(job, first, settings, journal)]
    for seed in others:
        if not host.heed_stop():
            takes.append(extend(job, seed, settings, journal))
    return takes


def kept_of(clip: Footage, direction: str, from_frame: int) -> Footage:
    """The part of the clip that is kept."""
    if from_frame < 0:
        return clip
    if from_frame >= clip.frames:
        raise ValueError(
            f"Setting from_frame is {from_frame}; the clip has frames 0 to {clip.frames - 1}."
        )
    forwards = direction == "forwards"
    return clip.part(0, from_frame + 1) if forwards else clip.part(from_frame, clip.frames)


def extent_of(clip: Footage, direction: str, seconds: float, settings: dict) -> Extent:
    check_choice("direction", direction, DIRECTIONS)
    return extent_from(settings, seconds, clip, backwards=direction == "backwards")


def extend(job: Extension, seed: int, settings: dict, journal: Journal | None) -> tuple:
    """One take: LATENT, VIDEO, seams and report."""
    fill = Sampling.of(settings, seed, vae=job.clip.vae).fill(job.extent.fps, journal)
    drift = drift_watch(job.clip, settings["drift_limit"])
    watch = lambda window, new: not host.heed_stop() and drift(window, new)  # noqa: E731
    size = job.extent.window, job.context
    if job.extent.backwards:
        sequence = extend_backwards(job.front_1CTHW, job.new, *size, fill, watch)
    else:
        still = partial(last_frame_as_image, job.clip.vae)
        sequence = extend_forwards(job.front_1CTHW, job.new, *size, fill, still, watch)
    made = sequence.shape[2] - job.front_1CTHW.shape[2]
    plan = plan_of(shortened(job, made))
    why = "you stopped it" if host.was_stopped() else "the drift passed drift_limit"
    stopped = "" if made == job.new else f"\nStopped early: {why}."
    latent, video, seams, report = finish_plan(plan, {"samples": sequence, FPS: job.extent.fps})
    return latent, video, seams, report + stopped
