"""ShowPatches: a picture of the grid of patches and of what is selected.

F pixel frames, H/W rows/columns, L tokens.
"""

from __future__ import annotations

import torch

from ..models.patch_picture import draw_patches
from ..models.selection import patch_frames
from .api import io
from .patch_views import frames_of
from .types import PatchedLatent, Patches


class ShowPatches(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_ShowPatches",
            display_name="Show Patches",
            category="PatchDiT/patches",
            description="A picture of the grid of patches over the frames, selected ones tinted and"
            " all of them numbered; without frames, over a picture of the latent itself.",
            search_aliases=["visualize patches", "patch grid", "preview selection", "token grid"],
            inputs=[
                Patches.Input("patches", tooltip="The patches to show."),
                io.Int.Input(
                    "frame",
                    default=-1,
                    min=-1,
                    max=65536,
                    tooltip="The frame to show, from 0; -1 gives a picture for each latent frame.",
                ),
                io.Int.Input(
                    "item",
                    default=0,
                    min=0,
                    max=4095,
                    tooltip="Which video of a batch to show, from 0.",
                    advanced=True,
                ),
                io.MultiType.Input(
                    "frames",
                    [io.Image, io.Video],
                    tooltip="The decoded video; without it the latent is shown in three colours,"
                    " its first three principal components.",
                    optional=True,
                ),
            ],
            outputs=[
                io.Image.Output(display_name="pictures", tooltip="One picture for each time shown.")
            ],
        )

    @classmethod
    def execute(cls, patches, frame, item, frames=None):
        check_item(patches, item)
        shown = times_shown(patches, frame)
        views_NHW3 = frames_of(patches, item, frames, [at for _, at in shown])
        selected_L = None if patches.selected_BL is None else patches.selected_BL[item]
        return io.NodeOutput(
            torch.stack(
                [
                    draw_patches(view_HW3, patches.grid, time, selected_L, patches.stride)
                    for view_HW3, (time, _) in zip(views_NHW3, shown, strict=True)
                ]
            )
        )


def check_item(patches: PatchedLatent, item: int) -> None:
    batch = len(patches.tokens_BLP)
    if not 0 <= item < batch:
        raise ValueError(f"There is no video {item} in a batch of {batch}; set item below {batch}.")


def times_shown(patches: PatchedLatent, frame: int) -> list[tuple[int, int]]:
    """Places along the grid's time and the pixel frame to show of each."""
    spans = [patch_frames(patches.grid, time, patches.stride) for time in range(patches.grid.t)]
    if frame == -1:
        return [(time, last) for time, (_, last) in enumerate(spans)]
    for time, (first, last) in enumerate(spans):
        if first <= frame <= last:
            return [(time, frame)]
    raise ValueError(f"There is no frame {frame} in a clip of {spans[-1][1] + 1}; lower frame.")
