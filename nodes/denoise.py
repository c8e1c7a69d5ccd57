"""StartDenoising, DenoiseStep, FinishDenoising: a run of a flow model, a few steps at a time."""

from __future__ import annotations

from ..models.flow import SOLVERS
from .api import io
from .latent_dicts import samples_of
from .sampling import Stoppable, advance, begin, finish_run, latent_of, open_journal, seed_list
from .sockets import low_inputs
from .types import BOUNDARY, DenoiseStateWire


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
                    tooltip="How strongly to follow the prompts and known frames: 1 ignores the"
                    " negative prompt.",
                ),
                io.Combo.Input(
                    "solver",
                    options=list(SOLVERS),
                    default="euler",
                    tooltip="euler: one straight step at a time; unipc: looks back, needs fewer;"
                    " lcm: fresh noise at every step, for distilled weights of few steps.",
                    advanced=True,
                ),
                io.String.Input(
                    "seeds",
                    default="",
                    tooltip="A seed for every video of the batch, such as 1, 2, 3; empty: one"
                    " seed for all.",
                    advanced=True,
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The autoencoder that belongs to the model; needed where part of the"
                    " latent is kept and the model is told so by encoded frames (Wan image to"
                    " video, VACE).",
                ),
                *low_inputs(),
            ],
            outputs=[
                DenoiseStateWire.Output(
                    display_name="state", tooltip="The run before its first step."
                )
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent, sigmas, seed, cfg, solver, seeds,
        vae=None, model_low=None, boundary=BOUNDARY,
    ):  # fmt: skip
        seed = seed_list(seeds, len(samples_of(latent))) or seed
        prompts = positive, negative, cfg
        late = {"vae": vae, "model_low": model_low, "boundary": boundary}
        return io.NodeOutput(begin(model, *prompts, latent, sigmas, seed, solver, **late))


class DenoiseStep(Stoppable, io.ComfyNode):
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
                io.Boolean.Input(
                    "checkpoint",
                    default=False,
                    optional=True,
                    tooltip="Write the run to disk every few seconds: after a crash or a cancel,"
                    " the same run goes on from there. Finish Denoising deletes it.",
                    advanced=True,
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
    def execute(cls, state, steps, checkpoint=False):
        journal = open_journal() if checkpoint else None
        after = advance(state, min(steps, state.state.steps_left), journal)
        return io.NodeOutput(after, latent_of(after, after.state.x0), after.state.steps_left)


class FinishDenoising(Stoppable, io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_FinishDenoising",
            display_name="Finish Denoising",
            category="PatchDiT/denoise",
            description="Take all the steps that are left and give the latent. What was to be kept"
            " is kept exactly.",
            search_aliases=["sampler", "run to the end", "finish sampling"],
            inputs=[
                DenoiseStateWire.Input("state", tooltip="A run under way."),
                io.Boolean.Input(
                    "checkpoint",
                    default=True,
                    optional=True,
                    tooltip="Write the run to disk every few seconds: after a crash or a cancel,"
                    " the same run goes on from there and ends with the same video.",
                    advanced=True,
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The denoised latent.")],
        )

    @classmethod
    def execute(cls, state, checkpoint=False):  # a graph saved before has no checkpoint
        return io.NodeOutput(finish_run(state, open_journal() if checkpoint else None))
