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


def whole_groups(frames_F: Tensor) -> Tensor:
    """1 + 4k frames (F,...) for as many as there are: the last one is repeated."""
    missing = -(len(frames_F) - 1) % STRIDE
    return torch.cat((frames_F, *[frames_F[-1:]] * missing)) if missing else frames_F


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


def frames_back(frames: int, fps: float, at_fps: float, wanted: int) -> list[int]:
    """The last `wanted` frames of a clip as if it had been filmed at another rate, by number.

    Counted back from the last frame, the nearest each time; ends early where the clip begins.
    """
    places = (frames - 1 - round(i * fps / at_fps) for i in range(wanted))
    return [place for place in places if place >= 0][::-1]


def places_after(count: int, fps: float, at_fps: float) -> tuple[float, ...]:
    """Where `count` frames at `fps` after a frame lie among frames made at `at_fps` after it.

    Place 0 is that frame, 1 the first one made.
    """
    return tuple((i + 1) * at_fps / fps for i in range(count))


def places_between(made: int, fps: float, at_fps: float) -> tuple[float, ...]:
    """Where frames at `fps` lie among `made` frames at `at_fps` between two frames, evenly."""
    count = max(round((made + 1) * fps / at_fps) - 1, 1)
    return tuple((i + 1) * (made + 1) / (count + 1) for i in range(count))
