"""EditDenoising, SaveDenoiseState, LoadDenoiseState: a run changed on its way, put by, taken up."""

from __future__ import annotations

from .api import io
from .editing import edit_run
from .host.native import check_pair
from .run_files import file_stamp, load_denoising, save_denoising
from .sockets import low_inputs
from .types import BOUNDARY, DenoiseStateWire


class EditDenoising(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_EditDenoising",
            display_name="Edit Denoising",
            category="PatchDiT/denoise",
            description="Change a run between two steps: its prompts, guidance, latent, mask or"
            " schedule. What is not connected stays as it was.",
            search_aliases=["change prompt", "prompt travel", "edit latent", "swap prompt"],
            inputs=[
                DenoiseStateWire.Input("state", tooltip="A run under way."),
                io.Conditioning.Input(
                    "positive", optional=True, tooltip="What to show from here on."
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="What to avoid from here on."
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The clean video as it should be, such as predicted of Denoise Step"
                    " with changes in it. Its noise mask counts if no mask is connected.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where to generate (1) and where to keep the latent (0).",
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="Another schedule: of its noise levels, those below the present one"
                    " are taken.",
                ),
                io.Float.Input(
                    "cfg",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="How strongly to follow the prompts from here on; 0: as before.",
                ),
            ],
            outputs=[
                DenoiseStateWire.Output(display_name="state", tooltip="The run after the change.")
            ],
        )

    @classmethod
    def execute(
        cls, state, positive=None, negative=None, latent=None, mask=None, sigmas=None, cfg=0.0
    ):
        edited = edit_run(state, positive, negative, cfg or None, latent, mask, sigmas)
        return io.NodeOutput(edited)


class SaveDenoiseState(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_SaveDenoiseState",
            display_name="Save Denoise State",
            category="PatchDiT/denoise",
            description="Write a run under way to a file in the output folder, to go on with it"
            " another day or try several ends of one beginning.",
            search_aliases=["save run", "pause sampling", "store state", "checkpoint run"],
            inputs=[
                DenoiseStateWire.Input("state", tooltip="A run under way."),
                io.String.Input(
                    "filename_prefix",
                    default="denoising/state",
                    tooltip="Folder and name in the output folder; a number is added.",
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="The file that was written.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, state, filename_prefix):
        path = str(save_denoising(state, filename_prefix))
        return io.NodeOutput(path, ui={"text": [path]})


class LoadDenoiseState(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_LoadDenoiseState",
            display_name="Load Denoise State",
            category="PatchDiT/denoise",
            description="Take up a run that Save Denoise State wrote: it goes on as if it had never"
            " stopped.",
            search_aliases=["load run", "resume sampling", "continue run"],
            inputs=[
                io.String.Input(
                    "file",
                    default="denoising/state_00001_.safetensors",
                    tooltip="A file in the output or input folder.",
                ),
                io.Model.Input("model", tooltip="The model that the run was begun with."),
                io.Conditioning.Input(
                    "positive", optional=True, tooltip="What to show; else what was saved."
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="What to avoid; else what was saved."
                ),
                io.Float.Input(
                    "cfg",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="How strongly to follow the prompts; 0: as saved.",
                ),
                io.Boolean.Input(
                    "any_model",
                    default=False,
                    tooltip="Go on with another model, or other LoRAs, than the run was saved"
                    " with.",
                    advanced=True,
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="As Start Denoising had it, if it had one."
                ),
                *low_inputs(),
            ],
            outputs=[DenoiseStateWire.Output(display_name="state", tooltip="The run as saved.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file, **_others):
        return file_stamp(file)

    @classmethod
    def execute(
        cls, file, model, positive=None, negative=None, cfg=0.0, any_model=False,
        vae=None, model_low=None, boundary=BOUNDARY,
    ):  # fmt: skip
        check_pair(model, model_low)
        models = {"vae": vae, "model_low": model_low, "boundary": boundary}
        prompts = positive, negative, cfg or None
        return io.NodeOutput(load_denoising(file, model, *prompts, any_model, **models))
