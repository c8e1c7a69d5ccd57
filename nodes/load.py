"""LoadBlockworld: the shipped model, or one trained here, as MODEL, CLIP and VAE."""

from __future__ import annotations

from pathlib import Path

from ..models import blockworld
from . import host
from .api import io

SHIPPED = "blockworld-mini"


class LoadBlockworld(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_LoadBlockworld",
            display_name="Load Blockworld",
            category="PatchDiT/load",
            description="The small text-to-video model that comes with the pack and runs on any"
            " CPU: it draws a world of balls, cubes, cones, stars and rings.",
            search_aliases=["blockworld", "mini video model", "patchdit model", "checkpoint"],
            inputs=[
                io.Combo.Input(
                    "weights",
                    options=[SHIPPED, *trained()],
                    default=SHIPPED,
                    tooltip="The shipped model, or a folder in ComfyUI's models/patchdit with the"
                    " files that training/ writes.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="The transformer; works with the core samplers too.",
                ),
                io.Clip.Output(
                    display_name="clip", tooltip="Its text encoder, for CLIP Text Encode."
                ),
                io.Vae.Output(
                    display_name="vae", tooltip="Its autoencoder; works with core VAE Decode."
                ),
            ],
        )

    @classmethod
    def execute(cls, weights):
        parts = blockworld.load(folder_of(weights))
        return io.NodeOutput(
            host.make_model(parts.transformer, parts.vae),
            host.make_clip(parts.text, parts.tokenizer),
            host.make_vae(parts.vae),
        )


def trained() -> list[str]:
    """Names of the folders that hold a whole model of the user's own."""
    root = host.weights_folder()
    folders = sorted(root.iterdir()) if root.is_dir() else []
    files = blockworld.NAMES.values()
    return [f.name for f in folders if all((f / name).is_file() for name in files)]


def folder_of(weights: str) -> Path:
    if weights == SHIPPED:
        return blockworld.FOLDER
    if weights not in trained():
        raise ValueError(
            f"There is no model {weights!r} in {host.weights_folder()}; found"
            f" {', '.join(trained()) or 'none'}."
        )
    return host.weights_folder() / weights
