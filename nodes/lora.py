"""LoadVideoLora: a LoRA file on a video MODEL."""

from __future__ import annotations

from . import host
from .api import io
from .host.native import half_of
from .sockets import half_input


class LoadVideoLora(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_LoadVideoLora",
            display_name="Load Video LoRA",
            category="PatchDiT/load",
            description="Puts a LoRA on a video model. Reads every public naming of Wan LoRAs and"
            " says so at once where a file is for another model.",
            search_aliases=["lora", "wan lora", "lightx2v", "lora loader model only", "style"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="A video model: ours, or Wan's by any loader. It stays as is."
                ),
                io.Combo.Input(
                    "lora_name",
                    options=host.model_files("loras"),
                    tooltip="A file in the folder models/loras.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How much of the LoRA is added; 0 leaves the model as it is and a"
                    " negative strength turns its effect round.",
                ),
                half_input(
                    "Of a file for both halves of Wan 2.2, which one the model is: high or"
                    " low noise. auto: as its own file's name says. No effect on other files."
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="The model with the LoRA; more can follow one after another.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, lora_name, strength, half="auto"):
        path = host.model_path("loras", lora_name)
        half = half_of(model) if half == "auto" else half
        return io.NodeOutput(host.add_lora(model, path, strength, half))
