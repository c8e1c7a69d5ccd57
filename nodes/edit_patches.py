"""ReplacePatches, RenoisePatches, MergePatches: changing the selected patches of a video.

B batch, L tokens, P patch values.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from torch import Tensor

from ..models.selection import (
    merge_patches,
    renoise_patches,
    replace_patches,
    surrounding,
)
from .api import io
from .patched import check_alike, selected_of, size_of
from .types import PatchedLatent, Patches

MERGED, SEAM = "merged", "seam"


class ReplacePatches(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_ReplacePatches",
            display_name="Replace Patches",
            category="PatchDiT/patches",
            description="Give the selected patches of a video what another video has in the same"
            " places; the others stay as they are.",
            search_aliases=["swap patches", "composite latent", "paste patches", "restore patches"],
            inputs=[
                Patches.Input(
                    "target",
                    tooltip="The video to change, where it is selected; without a selection,"
                    " everywhere.",
                ),
                Patches.Input(
                    "source",
                    tooltip="Where the new values come from: as long and as large as the target.",
                ),
            ],
            outputs=[
                Patches.Output(
                    display_name="patches", tooltip="The target with the source's values."
                )
            ],
        )

    @classmethod
    def execute(cls, target, source):
        check_alike(target, source, "target", "source")
        if target.grid != source.grid:
            raise ValueError(
                f"The source is a grid of {size_of(source)}, the target of {size_of(target)}"
                " patches; give both the same length and size, or use Merge Patches."
            )
        tokens_BLP = replace_patches(target.tokens_BLP, source.tokens_BLP, selected_of(target))
        return io.NodeOutput(replace(target, tokens_BLP=tokens_BLP))


class RenoisePatches(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_RenoisePatches",
            display_name="Renoise Patches",
            category="PatchDiT/patches",
            description="Mix noise into the selected patches, so that denoising them gives"
            " something new there; the others stay as they are.",
            search_aliases=["inject noise", "perturb latent", "noise region", "reroll patches"],
            inputs=[
                Patches.Input(
                    "patches",
                    tooltip="The patches to change, where they are selected; without a selection,"
                    " everywhere.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of a patch becomes noise: 0 nothing, 1 all of it.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The noise; a patch gets the same from a seed whatever is selected.",
                ),
            ],
            outputs=[
                Patches.Output(
                    display_name="patches", tooltip="The patches, selected ones noisier."
                )
            ],
        )

    @classmethod
    def execute(cls, patches, strength, seed):
        tokens_BLP = renoise_patches(
            patches.tokens_BLP, patches.grid, selected_of(patches), strength, seed
        )
        return io.NodeOutput(replace(patches, tokens_BLP=tokens_BLP))


class MergePatches(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        axes = {"frame": "later in time", "row": "down", "column": "to the right"}
        return io.Schema(
            node_id="PatchDiT_MergePatches",
            display_name="Merge Patches",
            category="PatchDiT/patches",
            description="Put the selected patches of one video into another, there or elsewhere in"
            " time and space, and select them or the seam round them.",
            search_aliases=[
                "composite video",
                "insert patches",
                "place object",
                "latent composite",
            ],
            inputs=[
                Patches.Input("base", tooltip="The video to put patches into."),
                Patches.Input(
                    "inserted",
                    tooltip="The video whose selected patches to take; without a selection, all.",
                ),
                *(
                    io.Int.Input(
                        axis,
                        default=0,
                        min=-4096,
                        max=4096,
                        tooltip=f"How many patches {where} to put them than they stand in their own"
                        " video; below 0 the other way.",
                    )
                    for axis, where in axes.items()
                ),
                io.Combo.Input(
                    "select",
                    options=[MERGED, SEAM],
                    default=MERGED,
                    tooltip="What is selected afterwards: the merged patches, or the seam, those"
                    " next to them, for denoising the join away.",
                ),
            ],
            outputs=[
                Patches.Output(
                    display_name="patches", tooltip="The base with the inserted patches."
                ),
                io.Int.Output(
                    display_name="count",
                    tooltip="Selected patches, those of every video of the batch together.",
                ),
            ],
        )

    @classmethod
    def execute(cls, base, inserted, frame, row, column, select):
        check_alike(base, inserted, "base", "inserted")
        tokens_BLP, selected_BL = merge(base, inserted, (frame, row, column))
        if select == SEAM:
            selected_BL = surrounding(selected_BL, base.grid)
        merged = replace(base, tokens_BLP=tokens_BLP, selected_BL=selected_BL)
        return io.NodeOutput(merged, int(selected_BL.sum()))


def merge(
    base: PatchedLatent, inserted: PatchedLatent, offset: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """The base's tokens with the other's selected patches at an offset, and where they are."""
    selected_BL = selected_of(inserted)
    tokens_BLP, placed_BL = merge_patches(
        base.tokens_BLP,
        base.grid,
        inserted.tokens_BLP,
        inserted.grid,
        selected_BL,
        offset,
    )
    first_in = selected_BL[:, : inserted.grid.h * inserted.grid.w].any()
    first_out = placed_BL[:, : base.grid.h * base.grid.w].any()
    if offset[0] and (first_in or first_out):
        logging.warning(
            "Merge Patches moved patches with frame %d from or to the first latent frame, which"
            " holds one frame where others hold four; denoise them if they jump.",
            offset[0],
        )
    return tokens_BLP, placed_BL
