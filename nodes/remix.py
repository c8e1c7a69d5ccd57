"""RemixVideo and PrepareRemix: the same clip in another style or at another place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..models.journal import Journal
from ..models.remix import Remake, remix_windows
from .api import io
from .footage import last_frame_as_image
from .remixing import (
    Remix,
    by_flow_edit,
    by_noise,
    lengths_of,
    prepare_remix,
    remix_plan,
    remix_report,
)
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
from .verbs import (
    Sampling,
    check_choice,
    clip_of,
    finish_plan,
    journaled,
    known_latents,
    window_latents,
)

NOISE, FLOW_EDIT = "noise", "flow edit"
METHODS = [FLOW_EDIT, NOISE]


def mask_input():
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip="White where the clip may change, one for all frames or one each; black pixels come"
        " out exactly as they were. Without it the whole frame changes.",
    )


class RemixVideo(Stoppable, io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_RemixVideo",
            display_name="Remix Video",
            category="PatchDiT/remix",
            description="Change the style, the place or a region of a clip by a prompt, and keep"
            " what moves in it and how.",
            search_aliases=["video to video", "v2v", "restyle", "flow edit", "sdedit", "img2img"],
            inputs=[
                *clip_inputs(),
                *sampling_inputs(cfg=3.0),
                io.Conditioning.Input(
                    "source",
                    optional=True,
                    tooltip="What the clip shows now, in the words of the positive prompt but for"
                    " what is to change. Flow edit needs it.",
                ),
                io.Combo.Input(
                    "method",
                    options=METHODS,
                    default=FLOW_EDIT,
                    tooltip="flow edit: moves the clip by the difference of two prompts, keeps"
                    " motion and layout best. noise: adds noise and denoises with the prompt,"
                    " needs no source.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.5,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Where in the schedule to begin: low keeps more of the clip, 1 forgets"
                    " it (noise) or changes it most (flow edit). For noise try 0.4.",
                ),
                io.Float.Input(
                    "source_cfg",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance of the source prompt in flow edit; 0: as cfg. Less than cfg"
                    " changes more.",
                    advanced=True,
                ),
                mask_input(),
                *window_inputs()[:2],
                checkpoint_input(),
                *low_inputs(),
            ],
            outputs=verb_outputs(),
        )

    @classmethod
    def execute(cls, video, vae, seed, strength, **settings):
        clip = clip_of(video, vae, settings)
        check_strength(strength)
        return io.NodeOutput(
            *remade(prepare_remix(clip, settings.get("mask")), seed, strength, settings)
        )


class PrepareRemix(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_PrepareRemix",
            display_name="Prepare Remix",
            category="PatchDiT/remix",
            description="The latent in which a sampler of your own remakes a clip, in one window:"
            " set the sampler's denoise to how much is to change. Finish Video puts the clip"
            " together again.",
            search_aliases=["video to video", "v2v", "ksampler", "sampler of my own", "inpaint"],
            inputs=[
                *clip_inputs(),
                denoiser_input(),
                mask_input(),
                window_inputs()[0],
            ],
            outputs=prepared_outputs(
                "For a sampler with denoise below 1: the clip and a noise mask."
            ),
        )

    @classmethod
    def execute(cls, video, vae, window, **settings):
        clip = clip_of(video, vae, settings)
        remix = prepare_remix(clip, settings.get("mask"))
        size = window_latents(settings["model"], window, stride=clip.stride)
        if remix.source_1CTHW.shape[2] > size:
            raise ValueError(
                f"The clip has {clip.frames} frames, more than one window; make the window longer"
                " or the clip shorter, or use Remix Video."
            )
        plan = remix_plan(remix, remix_report(remix, "by a sampler outside", [1]))
        return io.NodeOutput(plan.latent, plan)


def check_strength(strength: float) -> None:
    if not 0 < strength <= 1:
        raise ValueError(f"Setting strength is {strength:g}; need more than 0 and at most 1.")


def remade(remix: Remix, seed: int, strength: float, settings: dict) -> tuple:
    """LATENT, VIDEO, seams and report."""
    window, context = sizes(remix, settings)
    lengths = lengths_of(remix, window, context)
    sampling = Sampling.of(settings, seed, strength, remix.clip.vae)
    way = way_of(sampling, settings)

    def work(journal):
        clip = remix.source_1CTHW, remix.mask_11THW
        still = lambda latent: last_frame_as_image(remix.clip.vae, latent)  # noqa: E731
        return remix_windows(*clip, window, context, way(remix.clip.fps, journal), still)

    samples = journaled(settings["checkpoint"], work)
    plan = remix_plan(
        remix, remix_report(remix, f"by {settings['method']} at {strength:g}", lengths), lengths
    )
    return finish_plan(plan, {"samples": samples})


def way_of(sampling: Sampling, settings: dict) -> Callable[[float, Journal | None], Remake]:
    """What remakes a window, given frames per second and a journal."""
    check_choice("method", settings["method"], METHODS)
    if settings["method"] == NOISE:
        return partial(by_noise, sampling)
    source = settings.get("source")
    if source is None:
        raise ValueError(
            "Method flow edit needs source: connect a prompt of what the clip shows now, or set"
            " method to noise."
        )
    return partial(by_flow_edit, sampling, source, settings["source_cfg"] or sampling.cfg)


def sizes(remix: Remix, settings: dict) -> tuple[int, int]:
    """Latent frames of a window, and those that it knows of the window before."""
    stride = remix.clip.stride
    window = window_latents(settings["model"], settings["window"], stride=stride)
    return window, known_latents(settings, window, stride)
