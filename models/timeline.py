"""Pixel frames and latent frames: which is which, and how a clip's end is encoded alone.

An autoencoder has a stride s: latent 0 is pixel frame 0, latent j >= 1 is the s pixel frames
s(j-1)+1 .. sj. It is 4 for most, Blockworld, Wan and HunyuanVideo among them, and 8 for LTX. B
batch, C channels, F pixel frames, T latent frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

STRIDE = 4  # pixel frames per latent frame after the first, where nothing says otherwise


def latent_frames(frames: int, stride: int = STRIDE) -> int:
    """Latent frames of a clip of 1 + `stride` k pixel frames; ValueError for other counts."""
    if frames < 1 or (frames - 1) % stride:
        raise ValueError(f"A clip of {frames} frames: the count must be 1 + {stride}k.")
    return (frames - 1) // stride + 1


def pixel_frames(latents: int, stride: int = STRIDE) -> int:
    """Pixel frames that `latents` latent frames decode to."""
    return 1 + stride * (latents - 1)


def first_pixel_frame(latent: int, stride: int = STRIDE) -> int:
    """The first pixel frame of a latent frame."""
    return max(stride * (latent - 1) + 1, 0)


def latent_of_frame(frame: int, stride: int = STRIDE) -> int:
    """The latent frame that a pixel frame belongs to."""
    return -(-frame // stride)


def whole_groups(frames_F: Tensor, stride: int = STRIDE) -> Tensor:
    """1 + `stride` k frames (F,...) for as many as there are: the last one is repeated."""
    missing = -(len(frames_F) - 1) % stride
    return torch.cat((frames_F, *[frames_F[-1:]] * missing)) if missing else frames_F


def encode_suffix(vae, video_BCFHW: Tensor, lead: int = 2, stride: int = STRIDE) -> Tensor:
    """Latents [B,C,F/stride,h,w] of a clip's end, fit to stand at the end of any latent sequence.

    The end's first frame is repeated 1 + stride*lead times before it and the latents of that
    lead-in are dropped: so its first frame begins a group of `stride`, as in the middle of a clip,
    instead of being the single image that latent 0 is. `video_BCFHW` in -1..1 holds whole groups,
    from the first pixel frame of a latent.
    """
    frames = video_BCFHW.shape[2]
    if frames < stride or frames % stride:
        raise ValueError(f"A suffix of {frames} frames: the count must be a multiple of {stride}.")
    still = video_BCFHW[:, :, :1].expand(-1, -1, 1 + stride * lead, -1, -1)
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
