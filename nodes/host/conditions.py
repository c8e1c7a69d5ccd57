"""Without ComfyUI: what a CONDITIONING says beside its text, in the form that our network takes.

The one place that reads the entries which core's nodes write for Wan. B batch, C channels, T/H/W
latent frames/rows/columns, S text tokens, D width. Latents in entries are raw VAE means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.guidance import ModelDenoiser, rows
from ...models.transformer import PatchDiT
from ...models.vace import CELL, Control
from .duck import LatentSpace, Model
from .shown import MASK_PLANES

Entry = tuple[Tensor, dict[str, Any]]


@dataclass(frozen=True)
class Conditions:
    """What the network sees of one prompt."""

    text_BSD: Tensor
    concat_BCTHW: Tensor | None = None  # beside x: mask and image latent
    image_BSD: Tensor | None = None  # CLIP features of start (and end) image
    control: Control | None = None


def entry_of(conditioning: list, name: str) -> Entry:
    """The one entry of a CONDITIONING; several (areas, times) need ComfyUI."""
    if len(conditioning) != 1:
        raise ValueError(
            f"The {name} conditioning has {len(conditioning)} entries; without ComfyUI it must"
            " have one."
        )
    return conditioning[0][0], conditioning[0][1]


def conditions_of(
    entry: Entry, model: Model, shape: tuple[int, ...], device: torch.device
) -> Conditions:
    """What the network sees, on the device, of an entry for latents of `shape` (B,C,T,H,W).

    ValueError where latents in the entry are of another size.
    """
    text_BSD, values = entry
    config = model.network.config
    extra = config.in_channels - config.out_channels
    image = values.get("clip_vision_output") if config.image_width else None
    return Conditions(
        text_BSD.to(device),
        image_channels(values, model.latents, extra, shape).to(device) if extra else None,
        image.penultimate_hidden_states.to(device) if image is not None else None,
        control_of(values, model.latents, config.vace_channels, shape, device)
        if config.vace_blocks
        else None,
    )


def image_channels(
    values: dict[str, Any], latents: LatentSpace, channels: int, shape: tuple[int, ...]
) -> Tensor:
    """(B,channels,T,H,W): the mask, 1 = known, and the image latent; zeros where there is none."""
    T, H, W = shape[2:]
    image = values.get("concat_latent_image")
    if image is None:
        return torch.zeros(1, channels, T, H, W)
    check_size("concat_latent_image", image, shape)
    known = torch.zeros(1, MASK_PLANES, T, H, W)
    mask = values.get("concat_mask")
    if mask is not None:
        known = 1 - mask.float()
        if known.shape[1] != MASK_PLANES:
            known = known.mean(1, keepdim=True).expand(-1, MASK_PLANES, -1, -1, -1)
        known = F.pad(known, (0, 0, 0, 0, 0, T - known.shape[2]))
        check_size("concat_mask", known, shape)
    image = latents.normalise(image.float())
    batch = max(len(image), len(known))
    return torch.cat((rows(known, batch), rows(image, batch)), dim=1)


def control_of(
    values: dict[str, Any],
    latents: LatentSpace,
    channels: int,
    shape: tuple[int, ...],
    device: torch.device,
) -> Control:
    """The control videos of VACE; without any, one that says: generate everything."""
    T, H, W = shape[2:]
    frames = values.get("vace_frames")
    if frames is None:
        frames = [torch.zeros(1, channels - CELL**2, T, H, W)]
    masks = values.get("vace_mask")
    if masks is None:
        masks = [torch.ones(1, CELL**2, T, H, W)] * len(frames)
    videos = []
    for latent, mask in zip(frames, masks, strict=True):
        check_size("vace_frames", latent, shape)
        check_size("vace_mask", mask, shape)
        parts = [latents.normalise(part.float()) for part in latent.split(shape[1], dim=1)]
        batch = max(len(latent), len(mask))
        video = torch.cat([rows(part, batch) for part in (*parts, mask.float())], dim=1)
        videos.append(video.to(device))
    strengths = values.get("vace_strength") or [1.0] * len(videos)
    return Control(tuple(videos), tuple(strengths))


def check_size(name: str, latent_BCTHW: Tensor, shape: tuple[int, ...]) -> None:
    if latent_BCTHW.shape[2:] != torch.Size(shape[2:]):
        raise ValueError(
            f"The conditioning's {name} is {tuple(latent_BCTHW.shape[2:])} (latent frames, rows,"
            f" columns); the latent to denoise is {tuple(shape[2:])}: make both of one size."
        )


class ConditionedDenoiser(ModelDenoiser):
    """Our network as a Denoiser with all that one prompt says."""

    def __init__(self, network: PatchDiT, conditions: Conditions):
        super().__init__(
            network,
            conditions.text_BSD,
            image_features=conditions.image_BSD,
            concat_BCTHW=conditions.concat_BCTHW,
        )
        control = conditions.control
        if control is not None:
            control = replace(control, values=tuple(v.to(self.dtype) for v in control.values))
        self.control = control

    def velocities(self, x_BCTHW: Tensor, timestep: Tensor) -> list[Tensor]:
        if self.control is None:
            return super().velocities(x_BCTHW, timestep)
        text, _ = self.calls[0]
        return [self.model(x_BCTHW, timestep, text, control=self.control)]
