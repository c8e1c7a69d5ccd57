"""VACE: control videos that a second, shorter stream of blocks reads beside the main one.

What to keep and what to change of a video, and a mask, become 96 channels on the latent grid; what
the second stream makes of them is added to the main one at evenly spaced layers. Jiang et al. 2025
(arXiv:2503.07598).

Shapes: B batch, C channels, F pixel frames, T H W latent frames, rows, columns, L tokens, P values
of a patch, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import Attention
from .blocks import Block, Cast, Pass
from .config import PatchSize, TransformerConfig
from .patches import patchify

CELL = 8  # pixels along each side of a latent cell: the 64 planes of a mask are its pixels
FRAMES = 4  # pixel frames of every latent frame but the first, which is one


@dataclass(frozen=True, eq=False)
class Control:
    """Control videos, whose effects are added up, each times its strength; 0 is no effect.

    `values` are latent videos (B,96,T,H,W) of the video's own grid, as `control_channels` makes
    them, or their patches (B,L,P); a B of 1 serves a whole batch.
    """

    values: tuple[Tensor, ...]
    strengths: tuple[float, ...]

    def __post_init__(self):
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "strengths", tuple(self.strengths))
        if not self.values or len(self.values) != len(self.strengths):
            raise ValueError(
                f"Got {len(self.values)} control videos with {len(self.strengths)} strengths; need"
                " one strength for each of at least one video."
            )

    def patchified(self, x_BCTHW: Tensor, patch: PatchSize) -> Control:
        """The same control as patches, for a latent video that it has to be as large as."""
        for control_BCTHW in self.values:
            if control_BCTHW.shape[2:] != x_BCTHW.shape[2:]:
                raise ValueError(
                    f"Got a control video {tuple(control_BCTHW.shape)} for latents"
                    f" {tuple(x_BCTHW.shape)}; need as many frames, rows and columns."
                )
        return replace(self, values=tuple(patchify(v, patch)[0] for v in self.values))

    def check(self, tokens_BLP: Tensor, config: TransformerConfig) -> None:
        """Raise a ValueError unless a model can read these patches beside its tokens."""
        if not config.vace_blocks:
            raise ValueError("This model has no VACE blocks; got control videos for it.")
        B, L, _ = tokens_BLP.shape
        needed = config.vace_channels * prod(config.patch)
        for value in self.values:
            if value.shape not in ((B, L, needed), (1, L, needed)):
                raise ValueError(
                    f"Got control patches {tuple(value.shape)} for {B}x{L} tokens; need one of"
                    f" {needed} values for each ({config.vace_channels} channels)."
                )


class VACEBlock(Block):
    """A block of the control's stream; the first also takes in the main stream's tokens."""

    def __init__(
        self,
        config: TransformerConfig,
        operations: Any,
        attention: Attention,
        cast: Cast,
        first: bool,
        **where,
    ):
        super().__init__(config, operations, attention, cast, **where)
        width = config.width
        if first:
            self.before_proj = operations.Linear(width, width, **where)
        self.after_proj = operations.Linear(width, width, **where)


def vace_layers(config: TransformerConfig) -> range:
    """The layers of the main stream after which a hint is added, one for each VACE block."""
    if not config.vace_blocks:
        return range(0)
    stride, rest = divmod(config.layers, config.vace_blocks)
    if rest or config.known_attends_known or not config.vace_channels:
        raise ValueError(
            f"Got a model of {config.layers} layers with {config.vace_blocks} VACE blocks for"
            f" {config.vace_channels} channels, known_attends_known {config.known_attends_known};"
            " need layers that the blocks divide, control channels, and known tokens that see all."
        )
    return range(0, config.layers, stride)


def hints(
    blocks: Sequence[Any], streams_BLD: list[Tensor], control: Control, x_BLD: Tensor, shared: Pass
) -> Iterator[Tensor]:
    """What each VACE block adds to the main stream, (B,L,D), computed when it is asked for.

    `streams_BLD` are the embedded patches of each control video and `x_BLD` the tokens that the
    main stream starts from. In `shared` what they see of the prompts follows the main blocks'.
    """
    first = len(shared.text.layers) - len(blocks)
    streams_BLD = [blocks[0].before_proj(c_BLD) + x_BLD for c_BLD in streams_BLD]
    for place, block in enumerate(blocks):
        streams_BLD = [block(c_BLD, shared, first + place) for c_BLD in streams_BLD]
        parts = [
            block.after_proj(c_BLD) * strength
            for c_BLD, strength in zip(streams_BLD, control.strengths, strict=True)
        ]
        yield reduce(torch.add, parts)


def control_channels(inactive_BCTHW: Tensor, reactive_BCTHW: Tensor, mask_B1THW: Tensor) -> Tensor:
    """The channels of a control, (B, 2C + 64, T, H, W), 96 of them for Wan's latents.

    The latents are normalised per channel: of the video with grey where it is to be generated, and
    where it is not. The mask says of each cell what all of its pixels are, 1 to be generated.
    Latent frames get the mask of their nearest pixel frame, as the weights were trained: the first
    gets frame 1's, not frame 0's.
    """
    cells = check_latents(inactive_BCTHW, reactive_BCTHW)
    if mask_B1THW.shape[1] != 1 or mask_B1THW.shape[2:] != cells:
        raise ValueError(
            f"Got a mask {tuple(mask_B1THW.shape)} for latents of {tuple(cells)} cells (t,h,w);"
            " need one channel of as many."
        )
    frames = mask_B1THW.repeat_interleave(FRAMES, dim=2)[:, :, FRAMES - 1 :]
    planes = frames.to(inactive_BCTHW).expand(len(inactive_BCTHW), CELL**2, -1, -1, -1)
    planes = F.interpolate(planes, size=cells, mode="nearest-exact")
    return torch.cat((inactive_BCTHW, reactive_BCTHW, planes), dim=1)


def check_latents(inactive_BCTHW: Tensor, reactive_BCTHW: Tensor) -> torch.Size:
    """(T,H,W) of both, which have to be of one shape."""
    if inactive_BCTHW.shape != reactive_BCTHW.shape or inactive_BCTHW.ndim != 5:
        raise ValueError(
            f"Got inactive latents {tuple(inactive_BCTHW.shape)} and reactive ones"
            f" {tuple(reactive_BCTHW.shape)}; need (B,C,T,H,W), the same for both."
        )
    return inactive_BCTHW.shape[2:]
