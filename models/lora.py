"""LoRA files: what they change in a network, checked before any work, and merging it in.

For each module a file holds a product of two thin matrices (up: D,R; down: R,K; strength alpha / R)
or a whole difference; LoHa, LoKr and DoRA are read for ComfyUI, which merges them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from .checkpoints import one_half
from .lora_names import LOHA, LOKR, LYCORIS, Contents, Shapes, contents_of
from .tensor_files import read_header, read_tensors

Network = TypeVar("Network", bound=nn.Module)
Shape = tuple[int, ...]
Parts = Mapping[str, str]  # kind of tensor -> its name in the file
Found = Mapping[str, Parts]  # by the parameter that they change

EXTRAS = {"alpha", "dora_scale"}  # that change nothing by themselves


@dataclass(frozen=True)
class Patch:
    """What is added to one parameter: alpha / rank * up @ down, or a difference of its shape.

    Or what `added_to` does not know: a DoRA's scale beside it, or the tensors of a LoHa or LoKr.
    """

    up: Tensor | None = None
    down: Tensor | None = None
    alpha: float | None = None  # None: as large as the rank
    diff: Tensor | None = None
    dora_scale: Tensor | None = None
    lycoris: Mapping[str, Tensor] = field(default_factory=dict)  # by their endings

    def added_to(self, weight: Tensor, strength: float) -> Tensor:
        """`weight` plus `strength` times the patch, in float32; then back in the weight's type."""
        if self.up is None or self.down is None:
            assert self.diff is not None
            change = self.diff.to(weight.device).float()
        else:
            up_DR, down_RK = (part.to(weight.device).float().flatten(1) for part in self.factors)
            change = up_DR @ down_RK
        change = strength * self.scale * change.reshape(weight.shape)
        return (weight.float() + change).to(weight.dtype)

    @property
    def scale(self) -> float:
        """What the product is multiplied by: alpha / rank; 1 for a difference."""
        return 1.0 if self.alpha is None or self.down is None else self.alpha / len(self.down)

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        """(up, down); a difference has none."""
        assert self.up is not None and self.down is not None
        return self.up, self.down


def read_lora(
    path: str | Path, parameters: Shapes, lycoris: bool = False, half: str = ""
) -> dict[str, Patch]:
    """The patches of a LoRA file, by the names of the parameters of the network that it is for.

    `half` ("high" or "low") is the one to read of a file for both halves of Wan 2.2.
    What it has for parts that the network lacks, or has in another shape at its ends (a text to
    video file on a model that takes images), is left out, with a warning. A ValueError, by the
    header alone, for a file of another model: whose matrices do not fit the blocks or most of which
    has no place; and for LoHa, LoKr and DoRA unless `lycoris`.
    """
    file = Path(path).name
    shapes = one_half(read_header(path).shapes, half, file, "Load Video LoRA")
    found = find_tensors(file, shapes, parameters)
    if not lycoris:
        others = [n for parts in found.values() for kind, n in parts.items() if is_lycoris(kind)]
        what = f"{file} is a LoHa, LoKr or DoRA, which ComfyUI is needed for: it has"
        complain(what, others, "tensors of that kind")
    tensors = read_tensors(path, [name for parts in found.values() for name in parts.values()])
    patches = {
        parameter: patch_of({kind: tensors[name] for kind, name in parts.items()})
        for parameter, parts in found.items()
    }
    biases = [p for p, parts in found.items() if parts.get("diff", "").endswith(".bias")]
    return patches | {bias: scaled_bias(bias, patches) for bias in biases}


def scaled_bias(bias: str, patches: Mapping[str, Patch]) -> Patch:
    """A difference that is the bias of an `up`: scaled as the product is, as peft adds it.

    ComfyUI reads such biases in Flux files alone, which have no alpha: there both are the same.
    """
    product = patches.get(bias.removesuffix("bias") + "weight", Patch())
    diff = patches[bias].diff
    assert diff is not None
    return Patch(diff=diff if product.scale == 1 else diff.float() * product.scale)


def patch_of(held: dict[str, Tensor]) -> Patch:
    """The patch of one parameter's tensors, by their kinds."""
    lycoris = {kind: tensor for kind, tensor in held.items() if kind in LYCORIS}
    plain = {kind: held[kind] for kind in ("up", "down", "diff", "dora_scale") if kind in held}
    alpha = float(held["alpha"]) if "alpha" in held else None
    return Patch(**plain, alpha=alpha, lycoris=lycoris)


def is_lycoris(kind: str) -> bool:
    return kind == "dora_scale" or kind in LYCORIS


def find_tensors(file: str, shapes: Shapes, parameters: Shapes) -> dict[str, Parts]:
    """Parameter -> {kind: name in the file}, each whole and of its parameter's shape."""
    contents = contents_of(shapes, parameters)
    found = {name: parts for name, parts in contents.found.items() if parts.keys() - EXTRAS}
    check_whole(file, contents, found, widths(found, shapes, parameters))
    wrong = misfits(found, shapes, parameters)
    if len(wrong) == len(found) or any(map(tells_size, wrong)):
        what = f"{file} is a LoRA for another model: it does not fit"
        complain(what, list(wrong.values()), "parameters", widths(found, shapes, parameters))
    unused = [name for names in contents.unknown.values() for name in names]
    unused += [*contents.spare, *contents.odd]
    unused += [name for parameter in wrong for name in found[parameter].values()]
    if unused:
        text = "%s has %d tensors that this model has no place for, such as %s; they are left out."
        logging.warning(text, file, len(unused), unused[0])
    if not found:
        raise ValueError(f"{file} has nothing for this model; need a LoRA of its transformer.")
    return {name: parts for name, parts in found.items() if name not in wrong}


def check_whole(file: str, contents: Contents, found: Found, hint: str) -> None:
    """Raise unless most of a file has a place, and each patch in it is whole and there once."""
    placed = sum(map(len, found.values()))
    strange = sum(map(len, contents.unknown.values()))
    if len(contents.odd) + strange > placed:
        if len(contents.odd) > strange:
            complain(f"{file} is no LoRA that we read: it has", contents.odd, "other tensors")
        what = f"{file} is a LoRA for another model: it changes"
        complain(what, list(contents.unknown), "modules that this model lacks", hint)
    complain(f"{file} changes one parameter twice, by", contents.twice, "tensors")
    halves = [name for name, parts in found.items() if not is_whole(set(parts) - EXTRAS)]
    complain(f"{file} is not whole: it needs both up and down (or A and B) for", halves, "modules")


def is_whole(kinds: set[str]) -> bool:
    """Whether these kinds of tensors make one patch."""
    if kinds <= set(LOKR):
        return all({w} <= kinds or {f"{w}_a", f"{w}_b"} <= kinds for w in ("lokr_w1", "lokr_w2"))
    if kinds <= set(LOHA):
        return kinds in (set(LOHA), set(LOHA[:4]))
    return kinds in ({"up", "down"}, {"diff"})


def tells_size(parameter: str) -> bool:
    """Whether a parameter is inside a block, whose shapes tell one size of model from another."""
    return parameter.startswith(("blocks.", "vace_blocks.")) and "norm" not in parameter


def misfits(found: Found, shapes: Shapes, parameters: Shapes) -> dict[str, str]:
    """The parameters whose patch has another shape, with it; kernels may lie flat in the file."""
    wrong = {}
    for parameter, parts in found.items():
        wanted, arrived = parameters[parameter], shape_of(parts, shapes)
        if arrived is None or arrived[0] != wanted[0] or prod(arrived) != prod(wanted):
            of = "x".join(map(str, arrived)) if arrived else "of two ranks"
            wrong[parameter] = f"{parameter} {of} instead of {'x'.join(map(str, wanted))}"
    return wrong


def shape_of(parts: Parts, shapes: Shapes) -> Shape | None:
    """The shape of what a patch adds; None where its factors do not belong together."""
    held = {kind: shapes[name] for kind, name in parts.items()}
    if "diff" in held:
        return held["diff"] or (1,)
    if "up" in held:
        return product_of(held["up"], held["down"])
    family = "hada" if "hada_w1_a" in held else "lokr"
    one, two = (factor_of(held, f"{family}_w{i}", f"{family}_t{i}") for i in (1, 2))
    if family == "hada" or one is None or two is None:
        return one if one == two else None
    rows, columns, *kernel = two
    return (one[0] * rows, one[1] * columns, *kernel)  # of the Kronecker product


def factor_of(held: Shapes, whole: str, core: str) -> Shape | None:
    """The shape of one factor of a LoHa or LoKr: given whole, as a product, or round a core."""
    if whole in held:
        return held[whole] if len(held[whole]) > 1 else None
    first, second = held[f"{whole}_a"], held[f"{whole}_b"]
    if core in held:
        return (first[-1], second[-1], *held[core][2:])
    return product_of(first, second)


def product_of(up: Shape, down: Shape) -> Shape | None:
    """The shape of up @ down; None where they are of two ranks."""
    if len(up) < 2 or len(down) < 2 or prod(up[1:]) != down[0]:
        return None
    return (up[0], *down[1:])


def widths(found: Found, shapes: Shapes, parameters: Shapes) -> str:
    """What is said of the widths of file and model, where they are of Wan's kind and differ."""
    query = "blocks.0.self_attn.q.weight"
    if not is_whole(set(found.get(query, ())) - EXTRAS):
        return ""
    arrived = shape_of(found[query], shapes)
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


def with_lora(network: Network, path: str | Path, strength: float = 1.0, half: str = "") -> Network:
    """A copy of a network with a LoRA file merged; it shares every tensor that stays the same.

    `half` is as in `read_lora`.
    """
    weights = dict(network.state_dict())
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    patches = read_lora(path, shapes, half=half)
    tensors = (*network.parameters(), *network.buffers())
    copy = deepcopy(network, {id(tensor): tensor for tensor in tensors})
    for name, merged in merge(weights, patches, strength).items():
        module, _, parameter = name.rpartition(".")
        setattr(copy.get_submodule(module), parameter, nn.Parameter(merged, requires_grad=False))
    return copy
