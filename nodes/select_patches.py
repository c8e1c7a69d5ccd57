"""SelectPatches: which patches of a latent video to change and to denoise.

B batch, C channels, T/H/W latent frames/rows/columns, F pixel frames, L tokens.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..models.brush import read_brush
from ..models.patches import token_maximum
from ..models.selection import (
    COMBINATIONS,
    SHARES,
    Box,
    combine_selections,
    select_box,
    select_frames,
    select_share,
)
from .api import io
from .host.facts import rate_of_channels
from .latent_dicts import FPS, mask_of, usual_cell
from .patch_views import brush_view
from .patched import channels, clip_frames
from .types import PatchedLatent, Patches

FRAMES_BY, SECONDS_BY = "time in frames", "time in seconds"
FRACTIONS_BY, PIXELS_BY = "box in fractions", "box in pixels"
WAYS = [FRAMES_BY, SECONDS_BY, FRACTIONS_BY, PIXELS_BY, "mask", *SHARES, "all", "brush"]


class SelectPatches(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        number = partial(io.Float.Input, min=-65536.0, max=65536.0, step=0.01)
        sides = {
            "x": ("left edge, from the left of the frame", 0.25),
            "y": ("upper edge, from the top of the frame", 0.25),
            "width": ("width", 0.5),
            "height": ("height", 0.5),
        }
        return io.Schema(
            node_id="PatchDiT_SelectPatches",
            display_name="Select Patches",
            category="PatchDiT/patches",
            description="Choose the patches that the next nodes change, and that a sampler after"
            " Unpatchify Latent denoises; all others stay as they are.",
            search_aliases=["patch mask", "inpaint region", "selection", "motion mask", "brush"],
            is_output_node=True,  # so that its picture is there to paint on, made now or kept
            inputs=[
                Patches.Input("patches", tooltip="Patches from Patchify Latent."),
                io.Combo.Input(
                    "by",
                    options=WAYS,
                    default=FRACTIONS_BY,
                    tooltip="How to choose: time uses start and end; box uses x, y, width and"
                    " height; mask the mask; motion, stillness and random use share; brush what"
                    " is painted on the picture below. Settings of the other ways are ignored.",
                ),
                io.Combo.Input(
                    "combine",
                    options=list(COMBINATIONS),
                    default="replace",
                    tooltip="What to do with the selection so far: replace it, add to it, remove"
                    " from it, or keep only what both have.",
                ),
                io.Boolean.Input(
                    "invert",
                    default=False,
                    tooltip="Choose all other patches instead, before combining.",
                ),
                number(
                    "start",
                    default=0.0,
                    tooltip="Time only: the first frame (from 0), or the second it starts at.",
                ),
                number(
                    "end",
                    default=-1.0,
                    tooltip="Time only: the last frame, included, or the second it ends at; -1 is"
                    " the end of the clip.",
                ),
                *(
                    number(
                        side,
                        default=default,
                        tooltip=f"Box only: its {words}; 1 is the whole frame in fractions.",
                    )
                    for side, (words, default) in sides.items()
                ),
                io.Float.Input(
                    "share",
                    default=0.25,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Motion, stillness and random only: how many of the patches, 0 to 1.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Random only: another seed chooses other patches.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Mask only: one for the whole clip or one for each frame, of any size;"
                    " a patch is chosen where the mask reaches one half anywhere in it.",
                ),
                io.String.Input(
                    "brush",
                    default="",
                    optional=True,
                    tooltip="Brush only: what was painted, such as 5x4x4 0:5-6,9 for patches 5, 6"
                    " and 9 of the first time of a grid of 5 times, 4 rows and 4 columns.",
                    advanced=True,
                ),
                io.MultiType.Input(
                    "frames",
                    [io.Image, io.Video],
                    optional=True,
                    tooltip="The decoded video, to paint on; without it the brush shows the latent"
                    " in three colours. No effect on what is chosen.",
                ),
            ],
            outputs=[
                Patches.Output(display_name="patches", tooltip="The same with this selection."),
                io.Int.Output(
                    display_name="count",
                    tooltip="Selected patches, those of every video of the batch together.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, patches, by, combine, invert, start, end, x, y, width, height, share, seed,
        mask=None, brush="", frames=None,
    ):  # fmt: skip
        if by in (FRAMES_BY, SECONDS_BY):
            range_ = frame_range(patches, by, start, end)
            chosen = select_frames(patches.grid, *range_, patches.stride)
        elif by in (FRACTIONS_BY, PIXELS_BY):
            chosen = select_box(patches.grid, fractions(patches, by, (x, y, width, height)))
        elif by == "mask":
            chosen = select_mask(patches, mask)
        else:
            chosen = select_rest(patches, by, share, seed, brush)
        done = replace(patches, selected_BL=combined(patches, chosen, combine, invert))
        return io.NodeOutput(done, int(done.selected_BL.sum()), ui=brush_view(patches, frames))


def frame_range(patches: PatchedLatent, by: str, start: float, end: float) -> tuple[int, int]:
    """The first and the last pixel frame of the settings; an end of -1 is the clip's."""
    clip_end = patches.frames - 1
    if by == FRAMES_BY:
        if start % 1 or end % 1:
            raise ValueError(
                f"Frames are whole numbers; got start {start:g} and end {end:g}: set by to"
                f" {SECONDS_BY!r} for seconds."
            )
        return int(start), clip_end if end == -1 else int(end)
    fps = patches.rest.get(FPS) or rate_of_channels(channels(patches))
    if end != -1 and end <= start:
        raise ValueError(f"Time from {start:g} to {end:g} seconds is empty; set end after start.")
    last = clip_end if end == -1 else math.ceil(end * fps - 1e-6) - 1
    return math.floor(start * fps + 1e-6), last


def fractions(patches: PatchedLatent, by: str, box: Box) -> Box:
    """x, y, width and height in fractions of the frame."""
    if by == FRACTIONS_BY:
        return box
    _, cell = usual_cell(channels(patches))
    rows, columns = (side * cell for side in patches.grid.latent_shape[1:])
    x, y, width, height = box
    return x / columns, y / rows, width / columns, height / rows


def select_mask(patches: PatchedLatent, mask_FHW: Tensor | None) -> Tensor:
    """Patches (B,L) in which a MASK of one frame, or one for each of the clip, reaches 0.5."""
    if mask_FHW is None:
        raise ValueError("Choosing by mask needs a mask; connect one or set by to something else.")
    mask_FHW = mask_FHW.reshape(-1, *mask_FHW.shape[-2:])
    (real, _), whole = clip_frames(patches), patches.frames
    if len(mask_FHW) not in (1, real, whole):
        raise ValueError(
            f"The mask has {len(mask_FHW)} frames; need 1 for the whole clip or its {real}, one"
            " each."
        )
    if 1 < len(mask_FHW) < whole:  # the clip was padded with its last frame
        mask_FHW = torch.cat([mask_FHW, mask_FHW[-1:].expand(whole - len(mask_FHW), -1, -1)])
    shape = (len(patches.tokens_BLP), channels(patches), *patches.grid.latent_shape)
    mask_B1THW = mask_of({"noise_mask": mask_FHW}, shape, patches.stride)
    assert mask_B1THW is not None
    return token_maximum(mask_B1THW[:, 0], patches.grid.patch) >= 0.5


def select_rest(patches: PatchedLatent, by: str, share: float, seed: int, brush: str) -> Tensor:
    """Patches by a share of them, by hand, or all."""
    if by == "all":
        return torch.ones(patches.grid.tokens, dtype=torch.bool)
    if by == "brush":
        return read_brush(brush, patches.grid)
    return select_share(patches.tokens_BLP, patches.grid, by, share, seed)


def combined(patches: PatchedLatent, chosen: Tensor, combine: str, invert: bool) -> Tensor:
    """The selection (B,L) after a new choice (L) or (B,L), on the patches' device."""
    tokens_BLP = patches.tokens_BLP
    chosen_BL = (chosen ^ invert).to(tokens_BLP.device).expand(tokens_BLP.shape[:2])
    return combine_selections(patches.selected_BL, chosen_BL, combine)
