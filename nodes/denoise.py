"""StartDenoising, DenoiseStep, FinishDenoising: a run of a flow model, a few steps at a time.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..models.flow import SOLVERS, DenoiseState, denoise_step, finish, start
from . import host
from .api import io
from .clips import mask_of, rest_of
from .types import DenoiseStateWire, Denoising


class StartDenoising(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_StartDenoising",
            display_name="Start Denoising",
            category="PatchDiT/denoise",
            description="Mix noise into a latent and get ready to denoise it. What a noise mask"
            " says to keep stays as it is.",
            search_aliases=["sampler", "ksampler", "denoise", "step by step", "generate video"],
            inputs=[
                io.Model.Input("model", tooltip="Blockworld, or any flow model such as Wan."),
                io.Conditioning.Input("positive", tooltip="What to show."),
                io.Conditioning.Input("negative", tooltip="What to avoid."),
                io.Latent.Input("latent", tooltip="An empty latent, or one to change."),
                io.Sigmas.Input("sigmas", tooltip="Noise levels, from Flow Sigmas or core."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The noise; the same seed gives the same video.",
                ),
                io.Float.Input(
                    "cfg",
                    default=4.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="How strongly to follow the prompts: 1 ignores the negative one.",
                ),
                io.Combo.Input(
                    "solver",
                    options=list(SOLVERS),
                    default="euler",
                    tooltip="euler: one straight step at a time; unipc: looks back, needs fewer.",
                    advanced=True,
                ),
                io.String.Input(
                    "seeds",
                    default="",
                    tooltip="A seed for every video of the batch, such as 1, 2, 3; empty: one"
                    " seed for all.",
                    advanced=True,
                ),
            ],
            outputs=[
                DenoiseStateWire.Output(
                    display_name="state", tooltip="The run before its first step."
                )
            ],
        )

    @classmethod
    def execute(cls, model, positive, negative, latent, sigmas, seed, cfg, solver, seeds):
        samples_BCTHW = host.prepare_latent(model, latent)
        mask = mask_of(latent, samples_BCTHW.shape)
        seed = seed_list(seeds, len(samples_BCTHW)) or seed
        fill = host.fill_mode(model)
        state = start(samples_BCTHW, mask, sigmas, seed, solver=solver, fill=fill)
        return io.NodeOutput(Denoising(model, positive, negative, cfg, state, rest_of(latent)))


class DenoiseStep(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_DenoiseStep",
            display_name="Denoise Step",
            category="PatchDiT/denoise",
            description="Take the next steps of a run and look at where it is going. Steps taken"
            " one by one give exactly what one run gives.",
            search_aliases=["sampler step", "single step", "predicted clean", "preview step"],
            inputs=[
                DenoiseStateWire.Input("state", tooltip="A run under way."),
                io.Int.Input(
                    "steps",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="How many steps to take; the run ends with its last noise level.",
                ),
            ],
            outputs=[
                DenoiseStateWire.Output(display_name="state", tooltip="The run after these steps."),
                io.Latent.Output(
                    display_name="predicted", tooltip="The clean latent as predicted so far."
                ),
                io.Int.Output(display_name="left", tooltip="Steps still to take."),
            ],
        )

    @classmethod
    def execute(cls, state, steps):
        after = advance(state, min(steps, state.state.steps_left))
        return io.NodeOutput(after, latent_of(after, after.state.x0), after.state.steps_left)


class FinishDenoising(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_FinishDenoising",
            display_name="Finish Denoising",
            category="PatchDiT/denoise",
            description="Take all the steps that are left and give the latent. What was to be kept"
            " is kept exactly.",
            search_aliases=["sampler", "run to the end", "finish sampling"],
            inputs=[DenoiseStateWire.Input("state", tooltip="A run under way.")],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The denoised latent.")],
        )

    @classmethod
    def execute(cls, state):
        done = advance(state, state.state.steps_left)
        return io.NodeOutput(latent_of(done, finish(done.state)))


def advance(run: Denoising, steps: int) -> Denoising:
    """The run after `steps` more steps, with progress and previews; cancel stops between two."""
    if steps == 0:
        return run
    report = host.step_reporter(run.model, steps)

    def work(denoiser) -> DenoiseState:
        state = run.state
        for done in range(1, steps + 1):
            state = denoise_step(state, denoiser)
            report(done, state.x0)
        return state

    denoiser = host.as_denoiser(run.model, run.positive, run.negative, run.cfg)
    return replace(run, state=denoiser.run(run.state, work))


def latent_of(run: Denoising, samples_BCTHW: Tensor) -> dict:
    """The LATENT of samples in the run's model space, with what else the run's LATENT carried."""
    return {**run.rest, "samples": host.finish_latent(run.model, samples_BCTHW)}


def seed_list(seeds: str, batch: int) -> list[int]:
    """The seeds of "1, 2, 3", one for each of the batch; nothing for an empty text."""
    parts = seeds.replace(",", " ").split()
    if not all(part.isdecimal() and len(part) < 20 for part in parts):
        raise ValueError(
            f"Seeds are whole numbers of up to 19 digits, as in 1, 2, 3; got {seeds!r}."
        )
    if parts and len(parts) != batch:
        raise ValueError(f"Got {len(parts)} seeds for a batch of {batch}; need one for each.")
    return [int(part) for part in parts]
