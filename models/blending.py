"""One scene turning into another: values and predictions mixed by a weight per latent frame.

Weight 0 is the first scene, 1 the second. B batch, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .guidance import Denoiser


@dataclass(frozen=True)
class Zone:
    """The time in which a scene turns into another: what its denoising starts from (None: noise),
    and weights."""

    start_BCTHW: Tensor | None
    weight_T: Tensor

    @property
    def latents(self) -> int:
        return len(self.weight_T)


def rising_weights(count: int) -> Tensor:
    """`count` weights evenly between 0 and 1, both left out: those are the frames around."""
    return torch.arange(1, count + 1, dtype=torch.float32) / (count + 1)


def blend_zone(first_BCTHW: Tensor, second_BCTHW: Tensor) -> Zone:
    """The zone in which one video fades into the other, frame by frame, evenly."""
    if first_BCTHW.shape != second_BCTHW.shape:
        shapes = tuple(first_BCTHW.shape), tuple(second_BCTHW.shape)
        raise ValueError(f"The scenes of a zone are {shapes[0]} and {shapes[1]}; need one shape.")
    weight_T = rising_weights(first_BCTHW.shape[2]).to(first_BCTHW)
    return Zone(mix_frames(first_BCTHW, second_BCTHW, weight_T), weight_T)


def mix_frames(first_BCTHW: Tensor, second_BCTHW: Tensor, weight_T: Tensor) -> Tensor:
    """(1 - weight) first + weight second for every frame; exact at weights 0 and 1."""
    return torch.lerp(first_BCTHW, second_BCTHW, weight_T.to(first_BCTHW)[:, None, None])


def mixed_over_time(first: Denoiser, second: Denoiser, weight_T: Tensor) -> Denoiser:
    """The denoiser that predicts each frame as the first one does, the second, or in between."""

    def denoise(x_BCTHW: Tensor, sigma: Tensor) -> Tensor:
        return mix_frames(first(x_BCTHW, sigma), second(x_BCTHW, sigma), weight_T)

    return denoise


def lay_zone(
    latent_BCTHW: Tensor, mask_B1THW: Tensor, zone: Zone, at: int
) -> tuple[Tensor, Tensor, int]:
    """A window whose frames to generate start as the zone's from its frame `at` on.

    Returns the latent, the weight_T of all its frames (0 before those, 1 after) and how many of the
    zone's frames have now been laid. The frames to generate stand together.
    """
    free_T = mask_B1THW[0, 0].flatten(1).amax(1) > 0
    first, count = int(free_T.int().argmax()), int(free_T.sum())
    stop = first + count
    if not count or not free_T[first:stop].all() or at + count > zone.latents:
        raise ValueError(
            f"A window generates {count} latent frames from frame {first} on; the zone has"
            f" {zone.latents - at} left, which must fill frames that stand together."
        )
    laid = latent_BCTHW.clone()
    if zone.start_BCTHW is not None:
        laid[:, :, first:stop] = zone.start_BCTHW[:, :, at : at + count]
    weight_T = torch.zeros(len(free_T))
    weight_T[first:stop] = zone.weight_T[at : at + count]
    weight_T[stop:] = 1
    return laid, weight_T, at + count
