"""Pixel frames and latent frames: which is which, and how a clip's end is encoded alone.

Latent 0 is pixel frame 0; latent j >= 1 is pixel frames 4j-3 .. 4j. B batch, C channels, F pixel
frames, T latent frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

STRIDE = 4  # pixel frames per latent frame after the first


def latent_frames(frames: int) -> int:
    """Latent frames of a clip of 1 + 4k pixel frames; ValueError for other counts."""
    if frames < 1 or (frames - 1) % STRIDE:
        raise ValueError(f"A clip of {frames} frames: the count must be 1 + {STRIDE}k.")
    return (frames - 1) // STRIDE + 1


def pixel_frames(latents: int) -> int:
    """Pixel frames that `latents` latent frames decode to."""
    return 1 + STRIDE * (latents - 1)


def first_pixel_frame(latent: int) -> int:
    """The first pixel frame of a latent frame."""
    return max(STRIDE * latent - 3, 0)


def encode_suffix(vae, video_BCFHW: Tensor, lead: int = 2) -> Tensor:
    """Latents [B,C,F/4,h,w] of a clip's end, fit to stand at the end of any latent sequence.

    The end's first frame is repeated 1 + 4*lead times before it and the latents of that lead-in are
    dropped: so its first frame begins a group of four, as in the middle of a clip, instead of being
    the single image that latent 0 is. `video_BCFHW` in -1..1 holds 4k frames, from the first pixel
    frame of a latent.
    """
    frames = video_BCFHW.shape[2]
    if frames < STRIDE or frames % STRIDE:
        raise ValueError(f"A suffix of {frames} frames: the count must be a multiple of {STRIDE}.")
    still = video_BCFHW[:, :, :1].expand(-1, -1, 1 + STRIDE * lead, -1, -1)
    return vae.encode(torch.cat([still, video_BCFHW], 2))[:, :, lead + 1 :]
