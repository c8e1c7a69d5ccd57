"""Model files of ours: configs in their metadata, strict loading, and diffusers' names for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from .tensor_files import read_metadata, read_tensors, save_checkpoint

__all__ = [
    "check_fit",
    "check_names",
    "config_metadata",
    "config_of_part",
    "from_diffusers",
    "in_diffusers",
    "load_strictly",
    "one_half",
    "read_config",
    "read_metadata",
    "read_part",
    "read_tensors",
    "save_checkpoint",
]

Config = TypeVar("Config")
Value = TypeVar("Value")

CONFIG_KEY = "patchdit.config"
HALVES = {"high": "transformer.", "low": "transformer_2."}  # diffusers' names in Wan 2.2 14B

MODULES_IN_DIFFUSERS = {
    "patch_embedding": "patch_embedding",
    "vace_patch_embedding": "vace_patch_embedding",
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
    "before_proj": "proj_in",  # of a block that reads a control video
    "after_proj": "proj_out",
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


def read_config(path: str | Path) -> dict[str, Any]:
    """The configs that a file of ours carries, by part ("transformer", "vae", ...); else empty."""
    return configs_of(read_metadata(path), Path(path).name)


def read_part(path: str | Path, part: str, kind: Callable[..., Config]) -> Config | None:
    """The config of one part as a dataclass; None where the file carries none."""
    return config_of_part(read_metadata(path), part, kind, Path(path).name)


def configs_of(metadata: Mapping[str, str], file: str) -> dict[str, Any]:
    """The configs in a file's metadata, by part."""
    try:
        config = json.loads(metadata.get(CONFIG_KEY, "{}"))
    except json.JSONDecodeError:
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{file} has unreadable {CONFIG_KEY} metadata; need JSON.")
    return config


def config_of_part(
    metadata: Mapping[str, str], part: str, kind: Callable[..., Config], file: str
) -> Config | None:
    """The config of one part, from a file's metadata, as a dataclass; None where there is none."""
    values = configs_of(metadata, file).get(part)
    if values is None:
        return None
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} has a {part} config we do not know ({error}).") from error


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
    check_fit(wanted, {key: tuple(tensors[key].shape) for key in tensors}, Path(source).name)
    module.load_state_dict(dict(tensors), assign=any(w.is_meta for w in wanted.values()))


def check_fit(
    wanted: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], file: str
) -> None:
    """Raise a ValueError unless a file has exactly the wanted tensors, by name and shape."""
    check_names(f"{file} lacks", [key for key in wanted if key not in shapes])
    check_names(f"{file} has unknown", [key for key in shapes if key not in wanted])
    wrong = [
        f"{key} {shapes[key]} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if shapes[key] != tuple(wanted[key].shape)
    ]
    check_names(f"{file} has misshapen", wrong)


def check_names(what: str, names: list[str]) -> None:
    """Raise, naming the first five, unless there are none."""
    if names:
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ValueError(f"{what} {len(names)} tensors: {listed}.")


def one_half(tensors: Mapping[str, Value], half: str, file: str, node: str) -> dict[str, Value]:
    """What a file holds without one half of Wan 2.2, where it holds both; `half` is to stay.

    A ValueError sends the user to `node` where `half` ("high", "low" or empty) leaves it open.
    """
    held = [h for h, prefix in HALVES.items() if any(name.startswith(prefix) for name in tensors)]
    if len(held) < 2:
        return dict(tensors)
    if half not in held:
        raise ValueError(
            f"{file} holds both halves of Wan 2.2, transformer for high noise and transformer_2 for"
            f" low: choose one in the setting half of {node}."
        )
    gone = HALVES["low" if half == "high" else "high"]
    return {name: value for name, value in tensors.items() if not name.startswith(gone)}


def in_diffusers(name: str) -> str:
    """The name that diffusers' WanTransformer3DModel gives to a tensor of ours."""
    return renamed(name, MODULES_IN_DIFFUSERS, BLOCK_MODULES_IN_DIFFUSERS)


def from_diffusers(name: str) -> str:
    """Our name, Wan's original one, of a tensor of diffusers' WanTransformer3DModel."""
    tables = (MODULES_IN_DIFFUSERS, BLOCK_MODULES_IN_DIFFUSERS)
    return renamed(name, *({theirs: ours for ours, theirs in table.items()} for table in tables))


def renamed(name: str, modules: dict[str, str], block_modules: dict[str, str]) -> str:
    match = re.fullmatch(r"((?:vace_)?blocks\.\d+\.)?(.+?)(\.weight|\.bias)?", name)
    block, module, kind = match.groups("") if match else ("", "", "")
    table = block_modules if block else modules
    if module not in table:
        raise ValueError(f"{name} is no tensor of a Wan transformer.")
    return block + table[module] + kind
