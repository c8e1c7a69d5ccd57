"""LoRA files: what they change in a network, checked before any work, and merging it in.

A file names modules in one of many public ways: after a prefix, our names (Wan's original ones) or
diffusers', with dots or, as kohya does, with underscores. For each it holds a product of two thin
matrices (up: D,R; down: R,K; strength alpha / R) or a whole difference.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from .checkpoints import in_diffusers
from .tensor_files import read_header, read_tensors

Network = TypeVar("Network", bound=nn.Module)
Shapes = Mapping[str, tuple[int, ...]]

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
    "diff": "diff",
    "w_norm": "diff",
    "diff_b": "diff_b",
    "b_norm": "diff_b",
    "diff_m": "diff_m",
}
ENDING = re.compile(
    rf"(.*?)[._]({'|'.join(sorted(map(re.escape, ENDINGS), key=len, reverse=True))})"
    r"(?:\.default)?(?:\.weight)?"
)
PREFIX = re.compile(
    r"((base_model\.model|model|diffusion_model|transformer|unet)\.)+"
    r"|(lora_unet|lora_transformer|lycoris)_+"
)
WHOLE = ({"up", "down"}, {"diff"})
TEXT_ENCODERS = ("lora_te", "text_encoder", "base_model.model.text_encoder")
# Wan 2.1's image branch: its LoRAs are used on models without one, such as Wan 2.2 I2V.
IMAGE_BRANCH = re.compile(
    r"(k_img|v_img|img_emb|add_k_proj|add_v_proj|norm_added_k|image_embedder)"
)


@dataclass(frozen=True)
class Patch:
    """What is added to one parameter: alpha / rank * up @ down, or a difference of its shape."""

    up: Tensor | None = None
    down: Tensor | None = None
    alpha: float | None = None  # None: as large as the rank
    diff: Tensor | None = None

    def added_to(self, weight: Tensor, strength: float) -> Tensor:
        """`weight` plus `strength` times the patch, in float32; then back in the weight's type."""
        if self.up is None or self.down is None:
            assert self.diff is not None
            change, scale = self.diff.to(weight.device).float(), 1.0
        else:
            up_DR, down_RK = (part.to(weight.device).float().flatten(1) for part in self.factors)
            scale = 1.0 if self.alpha is None else self.alpha / len(down_RK)
            change = up_DR @ down_RK
        return (weight.float() + strength * scale * change.reshape(weight.shape)).to(weight.dtype)

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        """(up, down); a difference has none."""
        assert self.up is not None and self.down is not None
        return self.up, self.down


def read_lora(path: str | Path, parameters: Shapes) -> dict[str, Patch]:
    """The patches of a LoRA file, by the names of the parameters of the network that it is for.

    A file that changes anything else than `parameters` is a ValueError, by its header alone; what
    it has for a text encoder or an image branch that the network lacks is left out, with a warning.
    """
    file, shapes = Path(path).name, read_header(path).shapes
    found = find_tensors(file, shapes, parameters)
    check_shapes(file, found, shapes, parameters)
    wanted = [name for parts in found.values() for name in parts.values()]
    tensors = read_tensors(path, wanted)
    patches = {}
    for parameter, parts in found.items():
        held = {kind: tensors[name] for kind, name in parts.items()}
        alpha = held.pop("alpha", None)
        patches[parameter] = Patch(**held, alpha=None if alpha is None else float(alpha))
    return patches


def find_tensors(file: str, shapes: Shapes, parameters: Shapes) -> dict[str, dict[str, str]]:
    """Parameter -> {"up", "down", "alpha" or "diff": name in the file}, each whole."""
    spellings = spellings_of(parameters)
    found: dict[str, dict[str, str]] = {}
    left_out, unknown, odd, twice = [], {}, [], []
    for name in shapes:
        match = ENDING.fullmatch(name)
        if name.startswith(TEXT_ENCODERS):
            left_out.append(name)
        elif match is None:
            odd.append(name)
        else:
            module, kind = without_prefix(match[1]), ENDINGS[match[2]]
            parameter = parameter_of(module, kind, spellings, parameters)
            kind = "diff" if kind.startswith("diff") else kind
            if parameter is None and IMAGE_BRANCH.search(module):
                left_out.append(name)
            elif parameter is None:
                unknown[module] = None
            elif kind in found.setdefault(parameter, {}):
                twice.append(name)
            else:
                found[parameter][kind] = name
    found = {parameter: parts for parameter, parts in found.items() if set(parts) != {"alpha"}}
    complain(f"{file} is no LoRA that we read (nor are LoHa, LoKr, DoRA): it has", odd, "tensors")
    what = f"{file} is a LoRA for another model: it changes"
    hint = widths(found, shapes, parameters)
    complain(what, list(unknown), "modules that this model lacks", hint)
    complain(f"{file} changes one parameter twice, by", twice, "tensors")
    halves = [name for name, parts in found.items() if set(parts) - {"alpha"} not in WHOLE]
    complain(f"{file} is not whole: it needs both up and down (or A and B) for", halves, "modules")
    if left_out:
        text = "%s has %d tensors for parts that this model lacks, such as %s; they are left out."
        logging.warning(text, file, len(left_out), left_out[0])
    if not found:
        raise ValueError(f"{file} has nothing for this model; need a LoRA of its transformer.")
    return found


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


def check_shapes(
    file: str, found: Mapping[str, Mapping[str, str]], shapes: Shapes, parameters: Shapes
) -> None:
    """Raise unless every patch has its parameter's shape; kernels may lie flat in the file."""
    wrong = []
    for parameter, parts in found.items():
        wanted, arrived = parameters[parameter], shape_of(parts, shapes)
        if arrived is None or arrived[0] != wanted[0] or prod(arrived) != prod(wanted):
            of = "x".join(map(str, arrived)) if arrived else "of two ranks"
            wrong.append(f"{parameter} {of} instead of {'x'.join(map(str, wanted))}")
    what = f"{file} is a LoRA for another model: it does not fit"
    complain(what, wrong, "parameters", widths(found, shapes, parameters))


def shape_of(parts: Mapping[str, str], shapes: Shapes) -> tuple[int, ...] | None:
    """The shape of what a patch adds; None where up and down are of different ranks."""
    if "diff" in parts:
        return shapes[parts["diff"]] or (1,)
    up, down = shapes[parts["up"]], shapes[parts["down"]]
    if len(up) < 2 or len(down) < 2 or prod(up[1:]) != down[0]:
        return None
    return (up[0], *down[1:])


def widths(found: Mapping[str, Mapping[str, str]], shapes: Shapes, parameters: Shapes) -> str:
    """What is said of the widths of file and model, where they are of Wan's kind and differ."""
    query = "blocks.0.self_attn.q.weight"
    arrived = (
        shape_of(found[query], shapes) if set(found.get(query, ())) >= {"up", "down"} else None
    )
    if arrived is None or arrived[0] == parameters[query][0]:
        return ""
    return f"; it fits a network {arrived[0]} wide, the model is {parameters[query][0]}"


def complain(what: str, names: list[str], noun: str, hint: str = "") -> None:
    """Raise, naming the first five, unless there are none."""
    if names:
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ValueError(f"{what} {len(names)} {noun} ({listed}){hint}.")


def merge(
    weights: Mapping[str, Tensor], patches: Mapping[str, Patch], strength: float
) -> dict[str, Tensor]:
    """The patched tensors alone, each of its weight's type."""
    return {name: patch.added_to(weights[name], strength) for name, patch in patches.items()}


def with_lora(network: Network, path: str | Path, strength: float = 1.0) -> Network:
    """A copy of a network with a LoRA file merged; it shares every tensor that stays the same."""
    weights = dict(network.state_dict())
    patches = read_lora(path, {name: tuple(weight.shape) for name, weight in weights.items()})
    tensors = (*network.parameters(), *network.buffers())
    copy = deepcopy(network, {id(tensor): tensor for tensor in tensors})
    for name, merged in merge(weights, patches, strength).items():
        module, _, parameter = name.rpartition(".")
        setattr(copy.get_submodule(module), parameter, nn.Parameter(merged, requires_grad=False))
    return copy
