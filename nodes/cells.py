"""What an empty latent video is made of: a VAE's cells, and the shape for a size and a length.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..models.timeline import STRIDE
from . import host
from .footage import grid_of
from .host.duck import temporal_stride
from .latent_dicts import latent_length

LARGEST = 2**29  # values of one latent: 2 GiB of float32


@dataclass(frozen=True)
class Cells:
    """What a latent is made of: channels, pixels and frames of a cell, pixels across a token."""

    channels: int = 16
    stride: int = 8
    grid: int = 16
    frames: int = STRIDE


USUAL = Cells()  # of Blockworld and Wan 2.1


def cells_of(vae: Any) -> Cells:
    """What latents of a VAE are made of; ValueError for one that is not for video."""
    stride, channels = host.spatial_stride(vae), host.latent_channels(vae)
    if channels is None:
        raise ValueError(
            f"The VAE, {type(vae).__name__}, does not say how many channels its latents have;"
            " connect one from Load Video VAE, Load Blockworld or core's Load VAE."
        )
    return Cells(channels, stride, grid_of(vae), temporal_stride(vae))


def latent_shape(
    width: int, height: int, frames: int, batch: int, cells: Cells = USUAL
) -> tuple[int, ...]:
    """(B, C, T, H, W) of a latent for that video; ValueError if it would not fit in memory."""
    if batch < 1:
        raise ValueError(f"A batch has at least one video; got {batch}.")
    rows, columns = height // cells.stride, width // cells.stride
    shape = (batch, cells.channels, latent_length(frames, cells.frames), rows, columns)
    values = torch.Size(shape).numel()
    if values > LARGEST:
        raise ValueError(
            f"A batch of {batch} at {width}x{height} and {frames} frames needs a latent of"
            f" {values * 4 / 2**30:.0f} GiB; at most {LARGEST * 4 // 2**30}: make fewer, smaller"
            " or shorter videos."
        )
    return shape
