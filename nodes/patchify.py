"""PatchifyLatent and UnpatchifyLatent: a latent video as spacetime-patch tokens, and back.

B batch, C channels, T/H/W latent frames/rows/columns, L tokens, P patch values.
"""

from __future__ import annotations

from ..models.config import PatchSize
from ..models.patches import patchify, token_maximum, unpatchify
from ..models.selection import selection_mask
from .api import io
from .latent_dicts import mask_of, rest_of, samples_of
from .types import PatchedLatent, Patches


class PatchifyLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        sides = {"t": ("frames", 1), "h": ("rows", 2), "w": ("columns", 2)}
        return io.Schema(
            node_id="PatchDiT_PatchifyLatent",
            display_name="Patchify Latent",
            category="PatchDiT/patchify",
            description="Cut a latent video into the spacetime patches that the transformer sees as"
            " tokens; the first frames come first. What a noise mask frees is selected.",
            search_aliases=["spacetime patches", "tokens", "latent to patches"],
            inputs=[
                io.Latent.Input(
                    "latent",
                    tooltip="The latent video to cut up; patches that its noise mask frees"
                    " are selected.",
                ),
                *(
                    io.Int.Input(
                        f"patch_{axis}",
                        default=size,
                        min=1,
                        max=64,
                        tooltip=f"Latent {name} in a patch; Blockworld and Wan have {size}.",
                    )
                    for axis, (name, size) in sides.items()
                ),
            ],
            outputs=[
                Patches.Output(
                    display_name="patches", tooltip="The tokens and the grid they stand on."
                ),
                io.Int.Output(display_name="tokens", tooltip="Tokens of one video."),
            ],
        )

    @classmethod
    def execute(cls, latent, patch_t, patch_h, patch_w):
        patch = PatchSize(patch_t, patch_h, patch_w)
        samples_BCTHW = samples_of(latent)
        tokens_BLP, grid = patchify(samples_BCTHW, patch)
        mask_B1THW = mask_of(latent, samples_BCTHW.shape)
        selected_BL = None if mask_B1THW is None else token_maximum(mask_B1THW[:, 0], patch) > 0
        patches = PatchedLatent(tokens_BLP, grid, rest_of(latent), selected_BL)
        return io.NodeOutput(patches, grid.tokens)


class UnpatchifyLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_UnpatchifyLatent",
            display_name="Unpatchify Latent",
            category="PatchDiT/patchify",
            description="Put spacetime patches together again, exactly as Patchify Latent found"
            " them. With a selection, only selected patches will be denoised.",
            search_aliases=["patches to latent", "tokens to latent"],
            inputs=[Patches.Input("patches", tooltip="Patches, changed or not.")],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The latent video, its noise mask made of the selection.",
                )
            ],
        )

    @classmethod
    def execute(cls, patches):
        latent = {**patches.rest, "samples": unpatchify(patches.tokens_BLP, patches.grid)}
        if patches.selected_BL is not None:
            latent["noise_mask"] = selection_mask(patches.selected_BL, patches.grid)
        return io.NodeOutput(latent)
