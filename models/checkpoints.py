"""Model files: whose weights they are, under which names, read and written strictly.

A file's header alone says which model it holds: our own files carry the config in their metadata,
others are told by their tensors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .attention import Attention, sdpa
from .blocks import Cast
from .config import TRANSFORMER_PRESETS, TransformerConfig
from .tensor_files import read_header, read_metadata, read_tensors, save_checkpoint
from .transformer import PatchDiT, use_as_is

__all__ = [
    "Transformer",
    "config_metadata",
    "find_transformer",
    "from_diffusers",
    "in_diffusers",
    "load_strictly",
    "load_transformer",
    "read_config",
    "read_metadata",
    "read_part",
    "read_tensors",
    "save_checkpoint",
]

Config = TypeVar("Config")

CONFIG_KEY = "patchdit.config"
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.model.", "net.")

# A tensor, whole or the end of its name, that only these files have -> what we call them.
FOREIGN = {
    "vace_patch_embedding.weight": "Wan VACE",
    "ref_conv.weight": "Wan Fun with a reference image",
    "control_adapter.conv.weight": "Wan Fun with camera control",
    "face_adapter.fuser_blocks.0.k_norm.weight": "Wan Animate",
    "casual_audio_encoder.encoder.final_linear.weight": "Wan S2V",
    "audio_proj.audio_proj_glob_1.layer.bias": "HuMo",
    "fps_embedding.weight": "SkyReels with frame-rate embedding",
    "adaln_single.emb.timestep_embedder.linear_1.weight": "LTX-Video",
    "txt_in.individual_token_refiner.blocks.0.norm1.weight": "HunyuanVideo",
    "t5_yproj.weight": "Mochi",
    "decoder.conv1.weight": "Wan autoencoder",
    "scaled_fp8": "fp8-scaled",
    "scale_weight": "fp8-scaled",
    "comfy_quant": "quantised",
    "lora_A.weight": "LoRA",
    "lora_down.weight": "LoRA",
}

MODULES_IN_DIFFUSERS = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "head.modulation": "scale_shift_table",
    "head.head": "proj_out",
}
BLOCK_MODULES_IN_DIFFUSERS = {
    "modulation": "scale_shift_table",
    "norm3": "norm2",  # diffusers numbers norms in the order of use
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    **{
        f"{ours}.{part}": f"{theirs}.{their_part}"
        for ours, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for part, their_part in (
            ("q", "to_q"),
            ("k", "to_k"),
            ("v", "to_v"),
            ("o", "to_out.0"),
            ("norm_q", "norm_q"),
            ("norm_k", "norm_k"),
        )
    },
}


@dataclass(frozen=True)
class Transformer:
    """A transformer found in a file: its preset's name, its config, and file name -> our name.

    The high- and low-noise halves of Wan 2.2 14B have the shapes of Wan 2.1's and go by its name.
    """

    name: str
    config: TransformerConfig
    names: dict[str, str]


def read_config(path: str | Path) -> dict[str, Any]:
    """The configs that a file of ours carries, by part ("transformer", "vae", ...); else empty."""
    text = read_metadata(path).get(CONFIG_KEY, "{}")
    try:
        config = json.loads(text)
    except json.JSONDecodeError:
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{Path(path).name} has unreadable {CONFIG_KEY} metadata; need JSON.")
    return config


def read_part(path: str | Path, part: str, kind: Callable[..., Config]) -> Config | None:
    """The config of one part as a dataclass; None where the file carries none."""
    values = read_config(path).get(part)
    if values is None:
        return None
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{Path(path).name} has a {part} config we do not know ({error})."
        ) from error


def config_metadata(**parts: Any) -> dict[str, str]:
    """Metadata that `read_config` reads back, of config dataclasses: transformer=..., vae=..."""
    return {CONFIG_KEY: json.dumps({name: asdict(config) for name, config in parts.items()})}


def load_strictly(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str | Path = "the file"
) -> None:
    """Give a module all its weights; a ValueError names those missing, left over or misshapen.

    A module built on the meta device takes the tensors themselves; any other copies them.
    """
    wanted = module.state_dict()
    name = Path(source).name
    check_names(f"{name} lacks", [key for key in wanted if key not in tensors])
    check_names(f"{name} has unknown", [key for key in tensors if key not in wanted])
    wrong = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if tensors[key].shape != wanted[key].shape
    ]
    check_names(f"{name} has misshapen", wrong)
    module.load_state_dict(dict(tensors), assign=any(w.is_meta for w in wanted.values()))


def check_names(what: str, names: list[str]) -> None:
    """Raise, naming the first five, unless there are none."""
    if names:
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ValueError(f"{what} {len(names)} tensors: {listed}.")


def in_diffusers(name: str) -> str:
    """The name that diffusers' WanTransformer3DModel gives to a tensor of ours."""
    return renamed(name, MODULES_IN_DIFFUSERS, BLOCK_MODULES_IN_DIFFUSERS)


def from_diffusers(name: str) -> str:
    """Our name, Wan's original one, of a tensor of diffusers' WanTransformer3DModel."""
    tables = (MODULES_IN_DIFFUSERS, BLOCK_MODULES_IN_DIFFUSERS)
    return renamed(name, *({theirs: ours for ours, theirs in table.items()} for table in tables))


def renamed(name: str, modules: dict[str, str], block_modules: dict[str, str]) -> str:
    match = re.fullmatch(r"(blocks\.\d+\.)?(.+?)(\.weight|\.bias)?", name)
    block, module, kind = match.groups("") if match else ("", "", "")
    table = block_modules if block else modules
    if module not in table:
        raise ValueError(f"{name} is no tensor of a Wan transformer.")
    return block + table[module] + kind


def find_transformer(path: str | Path) -> Transformer:
    """Which transformer a file holds, by its header alone; a ValueError says what else it is."""
    shapes, file = read_header(path).shapes, Path(path).name
    names = without_prefix(shapes)
    own = read_part(path, "transformer", TransformerConfig)
    if own is not None:
        return Transformer("patchdit", own, names)
    for key, family in FOREIGN.items():
        if any(name == key or name.endswith(f".{key}") for name in names.values()):
            raise ValueError(f"{file} is a {family} file, which is not supported.")
    if "condition_embedder.time_proj.weight" in names.values():
        names = {theirs: from_diffusers(name) for theirs, name in names.items()}
    if "head.modulation" not in names.values():
        raise ValueError(f"{file} is not a Wan transformer or one of ours.")
    config = config_of({ours: shapes[theirs] for theirs, ours in names.items()}, file)
    for name, preset in TRANSFORMER_PRESETS.items():
        if preset == config:
            return Transformer(name, config, names)
    raise ValueError(
        f"{file} is a Wan-like transformer of width {config.width}, {config.layers} layers and "
        f"{config.in_channels} to {config.out_channels} channels, which is not supported."
    )


def without_prefix(names: Iterable[str]) -> dict[str, str]:
    """Name in the file -> name without the transformer's prefix; other models' tensors drop out."""
    names = list(names)
    for prefix in PREFIXES:
        inside = [name for name in names if name.startswith(prefix)]
        if len(inside) > 5:
            return {name: name[len(prefix) :] for name in inside}
    return {name: name for name in names}


def config_of(shapes: Mapping[str, tuple[int, ...]], file: str) -> TransformerConfig:
    """The config that a Wan transformer's tensor shapes speak of; its heads are always 128 wide."""
    needed = ("head.modulation", "head.head.weight", "patch_embedding.weight")
    needed += ("text_embedding.0.weight", "blocks.0.ffn.0.weight")
    check_names(f"{file} lacks", [name for name in needed if name not in shapes])
    width, image = shapes["head.modulation"][-1], shapes.get("img_emb.proj.0.weight", (0,))
    positions = shapes.get("img_emb.emb_pos", (1, 0, 0))
    blocks = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
    out_channels = shapes["head.head.weight"][0] // 4
    return TransformerConfig(
        width,
        shapes["blocks.0.ffn.0.weight"][0],
        max(width // 128, 1),
        len(blocks),
        in_channels=shapes["patch_embedding.weight"][1],
        out_channels=out_channels,
        text_width=shapes["text_embedding.0.weight"][1],
        image_width=image[0],
        image_positions=positions[1],
        frame_timesteps=out_channels == 48,
    )


def load_transformer(
    path: str | Path,
    operations: Any = nn,
    attention: Attention = sdpa,
    cast: Cast = use_as_is,
    dtype: torch.dtype | None = None,
) -> PatchDiT:
    """The transformer of a file, on the CPU, in evaluation mode; in the file's type or `dtype`."""
    found = find_transformer(path)
    tensors = read_tensors(path, found.names)
    tensors = {ours: tensors[theirs].to(dtype=dtype) for theirs, ours in found.names.items()}
    model = PatchDiT(found.config, operations, attention, cast, device="meta")
    load_strictly(model, tensors, path)
    return model.eval()
