"""Reading and making LATENT dicts that hold video, and the arithmetic of their lengths.

B batch, C channels, T/H/W latent frames/rows/columns, F pixel frames. A LATENT carries raw VAE
means in `samples` and, beside core's own keys, what decoding needs to give back the clip that went
in: `video_frames` (its real length, where padding made it longer) and `video_fps`. `video_seams`
are the frames at which verbs began another part, so that a chain of verbs knows them all, and
`video_size` is (height, width) in pixels where frames were padded to whole patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.timeline import STRIDE, latent_frames, pixel_frames
from ..models.video_vae import nearest_valid

Latent = dict[str, Any]
# Pixel frames, and pixels across, of a latent cell by channels: Mochi, Wan 2.2 TI2V-5B, LTX.
CELLS = {12: (6, 8), 48: (4, 16), 128: (8, 32)}

FRAMES, FPS, SEAMS, SIZE = "video_frames", "video_fps", "video_seams", "video_size"
PINS = "video_pins"  # (first, last) pixel frames of every pin: whose plan is whose, and messages
LONGEST = 600.0  # seconds of what is made at a time
DEFAULT_FPS = 8.0  # what blockworld was trained at


def usual_cell(channels: int) -> tuple[int, int]:
    """Pixel frames, and pixels across, of a cell of video latents of so many channels.

    For where there is neither the VAE that made them nor a MODEL to ask.
    """
    return CELLS.get(channels, (STRIDE, 8))


def latent_length(frames: int, stride: int = STRIDE) -> int:
    """Latent frames of a clip: frames = 1 + `stride` k give 1 + k. Other counts are an error."""
    valid = nearest_valid(frames, stride, offset=1)
    if frames not in valid:
        nearest = " or ".join(map(str, valid))
        raise ValueError(f"A clip has 1 + {stride}k frames; got {frames}, nearest {nearest}.")
    return latent_frames(frames, stride)


def frames_for(seconds: float, fps: float, stride: int = STRIDE) -> int:
    """The 1 + `stride` k frames whose duration at `fps` a second is nearest to `seconds`."""
    return 1 + stride * max(0, round((seconds * fps - 1) / stride))


def check_seconds(seconds: float) -> float:
    """Setting seconds; ValueError unless it is more than 0 and at most LONGEST."""
    if not 0 < seconds <= LONGEST:
        raise ValueError(
            f"Setting seconds is {seconds:g}; need more than 0 and at most {LONGEST:g}."
        )
    return seconds


def samples_of(latent: Latent, channels: int | None = None) -> Tensor:
    """The finite latents_BCTHW of a LATENT; an image latent (BCHW) counts as one frame."""
    samples = latent["samples"]
    if samples.ndim == 4:
        samples = samples.unsqueeze(2)
    if samples.ndim != 5:
        raise ValueError(
            f"LATENT has shape {tuple(samples.shape)}; need (batch, channels, frames, rows,"
            " columns)."
        )
    if channels is not None:
        check_channels(samples, channels)
    if not torch.isfinite(samples).all():
        broken = int((~torch.isfinite(samples)).sum())
        raise ValueError(
            f"LATENT holds {broken} values that are not numbers (NaN or infinite);"
            " the node that made it went wrong."
        )
    return samples


def check_channels(samples_BCTHW: Tensor, channels: int) -> None:
    """ValueError unless the latent has the channels of the model or VAE that it meets."""
    if samples_BCTHW.shape[1] != channels:
        raise ValueError(
            f"LATENT has {samples_BCTHW.shape[1]} channels, the model or VAE it is given to has"
            f" {channels}: both must belong to the same family."
        )


def rest_of(latent: Latent) -> Latent:
    """What a LATENT carries besides samples and mask: the keys to hand on."""
    gone = ("samples", "noise_mask", "downscale_ratio_spacial")
    return {name: value for name, value in latent.items() if name not in gone}


def real_frames(latent: Latent, stride: int | None = None) -> int:
    """Frames of the decoded clip that are the clip: its length less the padding.

    `stride` is the VAE's; None: that of latents of as many channels.
    """
    _, channels, T, _, _ = samples_of(latent).shape
    stride = stride or usual_cell(channels)[0]
    whole = pixel_frames(T, stride)
    kept = latent.get(FRAMES, whole)
    return kept if whole - stride < kept <= whole else whole


def shown_size(latent: Latent, cells: Sequence[int], stride: int, grid: int) -> tuple[int, int]:
    """Height and width of the decoded clip, in pixels, less the padding to whole patches.

    `cells` are the latent's rows and columns. A size that padding alone does not explain is that
    of another latent, which this one was made from, and means nothing.
    """
    whole = cells[0] * stride, cells[1] * stride
    shown = tuple(latent.get(SIZE, whole))
    fits = all(side - grid < real <= side for side, real in zip(whole, shown, strict=True))
    return shown if fits else whole


def mask_of(latent: Latent, shape: tuple[int, ...], stride: int | None = None) -> Tensor | None:
    """The noise mask_B1THW of a LATENT of `shape` (B,C,T,H,W), 1 = generate; None if it has none.

    A mask of five dimensions is on the latent grid. Core's masks have fewer and count pixel frames:
    one for the whole clip, or one each; a latent cell is generated if any pixel in it is. `stride`
    is the VAE's; None: that of latents of as many channels.
    """
    mask = latent.get("noise_mask")
    if mask is None:
        return None
    B, C, T, H, W = shape
    mask = mask.float()
    if mask.ndim < 5:
        mask = _grouped(mask.reshape(1, -1, *mask.shape[-2:]), T, stride or usual_cell(C)[0])
    if mask.shape[2] not in (1, T) or mask.shape[0] not in (1, B):
        raise ValueError(
            f"The noise mask has shape {tuple(mask.shape)}; the latent needs {(B, 1, T, H, W)}."
        )
    mask = mask.amax(dim=1, keepdim=True)
    if mask.shape[-2:] != (H, W):
        mask = F.adaptive_max_pool3d(mask, (mask.shape[2], H, W))
    return mask.clamp(0, 1).expand(B, 1, T, H, W).contiguous()


def _grouped(mask_1FHW: Tensor, T: int, stride: int) -> Tensor:
    """A pixel-frame mask as mask_11THW: frame 0 alone, then the maximum of every `stride`."""
    frames = mask_1FHW.shape[1]
    if frames == 1:
        return mask_1FHW.unsqueeze(1)
    if latent_length(frames, stride) != T:
        raise ValueError(
            f"The noise mask has {frames} frames; a latent of {T} frames needs"
            f" {pixel_frames(T, stride)}, or one for the whole clip."
        )
    groups = mask_1FHW[:, 1:].unflatten(1, (-1, stride)).amax(dim=2)
    return torch.cat([mask_1FHW[:, :1], groups], dim=1).unsqueeze(1)
