"""What the tensors of a LoRA file are called, and which parameter of a network each changes.

A file names modules in one of many public ways: after a prefix, our names (Wan's original ones) or
diffusers', with dots or, as kohya does, with underscores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from .checkpoints import in_diffusers

Shapes = Mapping[str, tuple[int, ...]]

LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
LYCORIS = (*LOHA, *LOKR)
# How the tensors of a module end, without ".weight" and the adapter's name ("default").
ENDINGS = {
    "lora_up": "up",
    "lora_B": "up",
    "lora.up": "up",
    "lora_linear_layer.up": "up",
    "lora_down": "down",
    "lora_A": "down",
    "lora.down": "down",
    "lora_linear_layer.down": "down",
    "alpha": "alpha",
    "dora_scale": "dora_scale",
    "diff": "diff",
    "w_norm": "diff",
    "diff_b": "diff_b",
    "b_norm": "diff_b",
    "diff_m": "diff_m",
    **{ending: ending for ending in LYCORIS},
}
ENDING = re.compile(
    rf"(?P<module>.*?)[._](?P<end>{'|'.join(sorted(map(re.escape, ENDINGS), key=len)[::-1])})"
    r"(\.default|(?<=lora_[AB])[._](?!(weight|bias)$)\w+)?(\.(?P<part>weight|bias))?"
)
PREFIX = re.compile(
    r"((base_model\.model|model|diffusion_model|transformer(_2)?|unet|pipe|dit2?)\.)+"
    r"|(lora_unet|lora_transformer|lycoris)_+"
)
TEXT_ENCODERS = ("lora_te", "text_encoder", "base_model.model.text_encoder")
# Parts that a LoRA may have though its model lacks them: Wan 2.1's image branch, whose LoRAs are
# used on models without one, such as Wan 2.2 I2V, and VACE's blocks.
SPARE = re.compile(
    r"(k_img|v_img|img_emb|add_k_proj|add_v_proj|norm_added_k|image_embedder|^vace_)"
)


@dataclass
class Contents:
    """The names in a file by what becomes of them; those of `found` have a parameter."""

    found: dict[str, dict[str, str]] = field(default_factory=dict)  # parameter -> kind -> name
    spare: list[str] = field(default_factory=list)  # for parts that the network need not have
    odd: list[str] = field(default_factory=list)  # with no ending that we know
    unknown: dict[str, list[str]] = field(default_factory=dict)  # module that it lacks -> names
    twice: list[str] = field(default_factory=list)  # of a kind that their parameter has already


def contents_of(names: Iterable[str], parameters: Shapes) -> Contents:
    """Sort the names in a file by what they change in a network of these parameters."""
    spellings = spellings_of(parameters)
    contents = Contents()
    for name in names:
        match = ENDING.fullmatch(name)
        kind = match and kind_of(match["end"], match["part"])
        if name.startswith(TEXT_ENCODERS):
            contents.spare.append(name)
        elif not match or not kind:
            contents.odd.append(name)
        else:
            module = without_prefix(match["module"])
            parameter = parameter_of(module, kind, spellings, parameters)
            kind = "diff" if kind.startswith("diff") else kind
            if parameter is None and SPARE.search(module):
                contents.spare.append(name)
            elif parameter is None:
                contents.unknown.setdefault(module, []).append(name)
            elif kind in contents.found.setdefault(parameter, {}):
                contents.twice.append(name)
            else:
                contents.found[parameter][kind] = name
    return contents


def kind_of(ending: str, part: str | None) -> str | None:
    """The kind of a tensor; an `up` may bring a bias, which is a difference, scaled as `up` is."""
    kind = ENDINGS[ending]
    if part != "bias":
        return kind
    return "diff_b" if kind == "up" else None


def spellings_of(parameters: Iterable[str]) -> dict[str, str]:
    """Every name that a file may give to a module (or bare parameter) -> ours."""
    spellings = {}
    for name in parameters:
        module = re.sub(r"\.(weight|bias)$", "", name)
        names = [module]
        with suppress(ValueError):  # not one of Wan's: another model, or one that diffusers lacks
            names.append(re.sub(r"\.(weight|bias)$", "", in_diffusers(name)))
        spellings |= {spelled: module for spelled in names}
        spellings |= {spelled.replace(".", "_"): module for spelled in names}
    return spellings


def without_prefix(module: str) -> str:
    """The module's name inside the transformer."""
    match = PREFIX.match(module)
    return module[match.end() :] if match else module


def parameter_of(
    module: str, kind: str, spellings: Mapping[str, str], parameters: Shapes
) -> str | None:
    """The parameter that a kind of tensor changes; None where the network has no such thing."""
    if kind == "diff_m":  # of a block's own modulation, which belongs to no layer
        return spellings.get(f"{module}.modulation", spellings.get(f"{module}_modulation"))
    ours = spellings.get(module)
    names = [f"{ours}.bias"] if kind == "diff_b" else [f"{ours}.weight", ours]
    return next((name for name in names if name in parameters), None)
