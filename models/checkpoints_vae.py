"""Video autoencoders in files of every public layout: Wan's original, diffusers', and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoints import check_fit, config_of_part, configs_of
from .config import VAE_PRESETS, VAEConfig
from .families import KIND_WORDS, give_weight, in_file_order, most_common_kind
from .foreign_files import NO_AUTOENCODER, what_else
from .tensor_files import DTYPES, StoredTensor
from .video_vae import VideoVAE
from .weight_sets import WeightSet, check_room, find_weights, read_all

PREFIXES = ("vae.", "first_stage_model.")

RESIDUAL_LAYERS = {"0": "norm1", "2": "conv1", "3": "norm2", "6": "conv2"}
MIDDLE_LAYERS = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
HEAD_LAYERS = {"0": "norm_out", "2": "conv_out"}


@dataclass(frozen=True)
class VideoVAEFile:
    """A video autoencoder found in a file; nothing but headers has been read."""

    path: Path
    family: str  # "wan2.1", "wan2.2" or "patchdit"
    label: str  # for people: family, type, naming
    config: VAEConfig
    tensors: dict[str, StoredTensor]  # our name -> where it lies

    @property
    def bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.tensors.values())


def find_video_vae(path: str | Path) -> VideoVAEFile:
    """Which video autoencoder a file, a set of shards or a folder holds.

    Reads headers only. A ValueError says in one sentence what the file holds instead, or which
    tensors it lacks or has too many (the first five and how many).
    """
    found = find_weights(path, "vae")
    tensors = own_tensors(found.tensors)
    own = config_of_part(found.metadata, "vae", VAEConfig, found.file)
    if own is None:
        refuse_others(found, tensors)
        tensors, naming = original_names(tensors, found.file)
    else:
        naming = "our own names"
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    config = own or config_of(shapes, found.file)
    check_fit(VideoVAE(config, device=torch.device("meta")).state_dict(), shapes, found.file)
    for tensor in tensors.values():
        if not DTYPES.get(tensor.kind, torch.uint8).is_floating_point:
            raise ValueError(
                f"{found.file} is quantised as {tensor.kind}; need a bf16 or fp32 file."
            )
    family = "patchdit" if own else config.layout
    title = "PatchDiT VAE" if own else f"Wan {config.layout[3:]} VAE"
    kind = most_common_kind(tensors)
    label = f"{title}, {KIND_WORDS.get(kind, kind)}, {naming}"
    return VideoVAEFile(found.path, family, label, config, tensors)


def load_video_vae(
    file: VideoVAEFile,
    dtype: torch.dtype | None = None,
    operations: Any = nn,
    device: torch.device | str = "cpu",
) -> VideoVAE:
    """The autoencoder on `device`, in evaluation mode, all of `dtype` or of the file's own type."""
    dtype = dtype or DTYPES[most_common_kind(file.tensors)]
    if torch.device(device).type == "cpu":
        check_room(file.bytes, file.path.name)
    vae = VideoVAE(file.config, operations, device=torch.device("meta"))
    tensors = in_file_order(file.tensors)
    for name, tensor in zip(tensors, read_all(tensors.values()), strict=True):
        give_weight(vae, name, tensor.to(device=device, dtype=dtype))
    return vae.eval()


def own_tensors(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The autoencoder's tensors; what lies beside it in a full checkpoint drops out."""
    for prefix in PREFIXES:
        inside = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        if len(inside) > 5:
            return inside
    return dict(tensors)


def refuse_others(found: WeightSet, tensors: Mapping[str, StoredTensor]) -> None:
    """Raise a ValueError that names what a file holds if that is no video autoencoder."""
    parts = configs_of(found.metadata, found.file)
    if parts:
        raise ValueError(f"{found.file} is our own {', '.join(parts)}; need a VAE file.")
    what = what_else(tensors, NO_AUTOENCODER)
    if what:
        raise ValueError(f"{found.file} is a {what} file, which is not supported; need a Wan VAE.")


def original_names(
    tensors: dict[str, StoredTensor], file: str
) -> tuple[dict[str, StoredTensor], str]:
    """The tensors under Wan's original names, and what their names were."""
    if "decoder.middle.0.residual.0.gamma" in tensors:
        return tensors, "original names"
    if "decoder.mid_block.resnets.0.norm1.gamma" not in tensors:
        raise ValueError(f"{file} is not a Wan autoencoder or one of ours.")
    grouped = any(name.startswith("decoder.up_blocks.0.upsampler.") for name in tensors)
    config = VAE_PRESETS["wan2.2" if grouped else "wan2.1"]
    ours = {theirs: name for name, theirs in diffusers_vae_names(config).items()}
    return {ours.get(name, name): tensor for name, tensor in tensors.items()}, "diffusers names"


def config_of(shapes: Mapping[str, tuple[int, ...]], file: str) -> VAEConfig:
    """The config that a Wan autoencoder's tensor shapes speak of, with its latents' statistics."""
    grouped = "decoder.upsamples.0.upsamples.0.residual.2.weight" in shapes
    preset = VAE_PRESETS["wan2.2" if grouped else "wan2.1"]
    needed = ("encoder.conv1.weight", "decoder.head.0.gamma", "conv2.weight")
    missing = [name for name in needed if name not in shapes]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing)}; need encoder and decoder of a VAE.")
    encoder, channels = shapes["encoder.conv1.weight"][:2]
    latent, decoder = shapes["conv2.weight"][0], shapes["decoder.head.0.gamma"][0]
    if (latent, channels) != (preset.latent_channels, 3 * preset.pixel_patch**2):
        raise ValueError(
            f"{file} turns {channels} channels into {latent}; a Wan {preset.layout[3:]} VAE turns "
            f"{3 * preset.pixel_patch**2} into {preset.latent_channels}."
        )
    return replace(preset, encoder_width=encoder, decoder_width=decoder)


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
