"""Names of a Wan autoencoder's tensors in the original files and in diffusers' AutoencoderKLWan."""

from __future__ import annotations

import re

import torch

from .config import VAEConfig
from .video_vae import VideoVAE

RESIDUAL_LAYERS = {"0": "norm1", "2": "conv1", "3": "norm2", "6": "conv2"}
MIDDLE_LAYERS = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
HEAD_LAYERS = {"0": "norm_out", "2": "conv_out"}


def diffusers_vae_names(config: VAEConfig) -> dict[str, str]:
    """Original name -> diffusers name for every tensor of a "wan2.1" or "wan2.2" layout.

    One name each, so the way back is the same dict inverted.
    """
    if config.factorised:
        raise ValueError(f"diffusers has no autoencoder of layout {config.layout!r}.")
    originals = VideoVAE(config, device=torch.device("meta")).state_dict()
    return {name: diffusers_name(name, config) for name in originals}


def diffusers_name(name: str, config: VAEConfig) -> str:
    """The diffusers name of one tensor of an original Wan autoencoder file."""
    if name.startswith(("conv1.", "conv2.")):
        quant = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
        return quant[name[:5]] + name[5:]
    side, part, rest = name.split(".", 2)
    if part == "conv1":
        return f"{side}.conv_in.{rest}"
    index, rest = rest.split(".", 1)
    if part == "head":
        return f"{side}.{HEAD_LAYERS[index]}.{rest}"
    if part == "middle":
        return f"{side}.mid_block.{MIDDLE_LAYERS[index]}.{block_layer(rest)}"
    return f"{side}.{stage_layer(part, int(index), rest, config)}"


def stage_layer(part: str, index: int, rest: str, config: VAEConfig) -> str:
    """A tensor of `downsamples.<index>` or `upsamples.<index>`: flat in 2.1, stages in 2.2."""
    if config.grouped:
        _, position, rest = rest.split(".", 2)
        stage, position = index, int(position)
    else:
        stage, position = divmod(index, config.blocks + 2)
    rest = block_layer(rest)
    if part == "upsamples":
        place = f"resnets.{position}" if position <= config.blocks else "upsampler"
        if place == "upsampler" and not config.grouped:
            place = "upsamplers.0"
        return f"up_blocks.{stage}.{place}.{rest}"
    if not config.grouped:
        return f"down_blocks.{index}.{rest}"
    place = f"resnets.{position}" if position < config.blocks else "downsampler"
    return f"down_blocks.{stage}.{place}.{rest}"


def block_layer(rest: str) -> str:
    """What follows the number of a block: only residual blocks have other names in diffusers."""
    rest = re.sub(r"^residual\.(\d)", lambda match: RESIDUAL_LAYERS[match[1]], rest)
    return re.sub(r"^shortcut", "conv_shortcut", rest)
