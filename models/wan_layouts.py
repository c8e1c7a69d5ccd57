"""The layouts of Wan's transformers: their tensors' names, what the shapes say, which family.

Shapes and names tell everything but the two halves of Wan 2.2 14B, which differ in file name only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from .checkpoints import HALVES, check_names, from_diffusers
from .config import TransformerConfig
from .quantised import EXTRAS, MARKER
from .tensor_files import StoredTensor

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.model.", "model.", "net.")
PREFIXES += tuple(HALVES.values())
TWO_HALVES = ("wan2.1-t2v", "wan2.2-t2v", "wan2.2-i2v", "wan2.1-vace")


def own_tensors(tensors: Mapping[str, StoredTensor]) -> tuple[dict[str, StoredTensor], str]:
    """The transformer's tensors without their prefix, and the prefix.

    Where there is a prefix, what lies beside it (autoencoder, text encoder) drops out.
    """
    for prefix in PREFIXES:
        inside = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        if len(inside) > 5:
            marker = {MARKER: tensors[MARKER]} if MARKER in tensors else {}
            return inside | marker, prefix
    return dict(tensors), ""


def original_names(
    tensors: dict[str, StoredTensor], file: str
) -> tuple[dict[str, StoredTensor], bool]:
    """The tensors under Wan's original names, and whether they had those of diffusers."""
    if "condition_embedder.time_embedder.linear_1.weight" in tensors:
        return {original_name(name): tensor for name, tensor in tensors.items()}, True
    if "head.modulation" not in tensors:
        raise ValueError(f"{file} is not a Wan transformer or one of ours.")
    return tensors, False


def original_name(name: str) -> str:
    """Wan's original name of a tensor of diffusers', a scale of its quantisation included."""
    for extra in EXTRAS:
        if name.endswith(extra):
            return (
                from_diffusers(name.removesuffix(extra) + ".weight").removesuffix(".weight") + extra
            )
    return name if name == MARKER else from_diffusers(name)


def config_of(shapes: Mapping[str, tuple[int, ...]], file: str) -> TransformerConfig:
    """The config that a Wan transformer's tensor shapes speak of; its heads are always 128 wide."""
    needed = ("head.modulation", "head.head.weight", "patch_embedding.weight")
    needed += ("text_embedding.0.weight", "blocks.0.ffn.0.weight")
    check_names(f"{file} lacks", [name for name in needed if name not in shapes])
    patches = shapes["patch_embedding.weight"]
    if len(patches) != 5:  # as in a GGUF file without the shapes that do not fit into it
        raise ValueError(f"{file} has a patch_embedding.weight of {patches}; need 5 dimensions.")
    width, in_channels = shapes["head.modulation"][-1], patches[1]
    out_channels = shapes["head.head.weight"][0] // 4
    check_layout(width, in_channels, out_channels, file)
    return TransformerConfig(
        width,
        shapes["blocks.0.ffn.0.weight"][0],
        width // 128,
        count_blocks(shapes, "blocks"),
        in_channels=in_channels,
        out_channels=out_channels,
        text_width=shapes["text_embedding.0.weight"][1],
        image_width=shapes.get("img_emb.proj.0.weight", (0,))[0],
        image_positions=shapes.get("img_emb.emb_pos", (1, 0, 0))[1],
        vace_blocks=count_blocks(shapes, "vace_blocks"),
        vace_channels=shapes.get("vace_patch_embedding.weight", (0, 0))[1],
        frame_timesteps=out_channels == 48,
    )


def check_layout(width: int, in_channels: int, out_channels: int, file: str) -> None:
    """Raise a ValueError if no model that is trained so is known here."""
    if width % 128:
        raise ValueError(f"{file} is {width} wide; Wan models are a multiple of 128 wide.")
    if (in_channels, out_channels) not in ((16, 16), (36, 16), (48, 48)):
        control = in_channels > out_channels
        raise ValueError(
            f"{file} is a Wan{' Fun-Control' if control else ''} model that takes {in_channels} "
            f"channels and gives {out_channels}, which is not supported."
        )


def count_blocks(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    return len({key.split(".")[1] for key in shapes if key.startswith(f"{name}.")})


def family_of(config: TransformerConfig, path: Path, half: str = "") -> tuple[str, str]:
    """The family and, for one of a pair, which half: shapes tell the rest, the name only this.

    Where `half` ("high" or "low") says which, the name does not count.
    """
    name = path.name.lower()
    if config.vace_blocks:
        family = "wan2.1-vace"
    elif config.out_channels == 48:
        family = "wan2.2-ti2v"
    elif config.image_positions:
        family = "wan2.1-flf2v"
    elif config.image_width:
        small = config.width == 1536  # only Alibaba's Fun models are conditioned so at this size
        family = "wan2.1-fun-inp" if small or re.search(r"fun.*inp", name) else "wan2.1-i2v"
    else:
        family = "wan2.2-i2v" if config.in_channels == 36 else "wan2.1-t2v"
    noise = half or noise_of(path) if family in TWO_HALVES else ""
    return ("wan2.2-t2v" if family == "wan2.1-t2v" and noise else family), noise


def noise_of(path: Path) -> str:
    """Which half of a pair a file is, by its name, its folder's, or diffusers' two folders."""
    for name in (path.name.lower(), path.parent.name.lower()):
        match = re.search(r"(high|low)[-_. ]?noise", name)
        if not match and re.search(r"2[._]2|a14b", name):
            match = re.search(r"[-_. ](high|low)(?=[-_. ]|$)", name)
        if match:
            return match[1]
    folder = path if path.is_dir() else path.parent
    if (folder / "transformer_2").is_dir() or folder.with_name("transformer_2").is_dir():
        return "low" if folder.name == "transformer_2" else "high"
    return ""


def size_of(preset: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """As the weights are called where they are published, else how many parameters."""
    named = re.search(r"\d[\d.]*b$", preset)
    if named:
        return named[0].upper()
    count = sum(torch.Size(shape).numel() for shape in shapes.values())
    return f"{count / 1e9:.1f}B" if count >= 5e7 else f"{count / 1e6:.1f}M"
