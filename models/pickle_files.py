"""PyTorch's .pt and .pth files of weights: opened by torch's safe reader only, never run."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from .tensor_files import DTYPES, StoredTensor

WRAPPERS = ("generator_ema", "generator", "state_dict", "model", "module", "params")
# What training wraps round a module leaves its mark in the names.
TRAINING = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
KINDS = {dtype: kind for kind, dtype in DTYPES.items()}
MAPPED_AT_ONCE = 20  # parts that a file is mapped in, so that little of it counts as memory


def read_pickle_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a .pt file by their names without wrappers; none of their values are read."""
    return {
        plain_name(name): StoredTensor(
            path,
            name,
            tuple(tensor.shape),
            KINDS.get(tensor.dtype, str(tensor.dtype)),
            tensor.nbytes,
        )
        for name, tensor in open_pickle(path).items()
    }


def read_pickled(tensors: Iterable[StoredTensor]) -> Iterator[Tensor]:
    """Tensors of .pt files as stored, in this order, in memory of their own.

    A file is mapped afresh for every twentieth of its bytes: what was copied from the last part no
    longer counts as memory then, and in the end the file is not open.
    """
    tensors, taken, parts = list(tensors), 0, []
    part = max(sum(tensor.bytes for tensor in tensors) // MAPPED_AT_ONCE, 1)
    for tensor in tensors:
        parts.append((tensor.file, taken // part))
        taken += tensor.bytes
    numbered = zip(parts, tensors, strict=True)
    for (file, _), group in groupby(numbered, key=lambda pair: pair[0]):
        mapped = open_pickle(file)
        for _, tensor in group:
            yield mapped[tensor.name].clone(memory_format=torch.contiguous_format)
        del mapped


def open_pickle(path: Path) -> dict[str, Tensor]:
    """Name -> tensor mapped from the file; a ValueError says why it holds no weights."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name} holds more than weights, or is not whole, and is not opened; "
            "need a .safetensors file."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path.name} is not a whole .pt file of weights ({first}); download it again or get "
            "a .safetensors file."
        ) from error
    while isinstance(held, dict):
        inside = next((held[key] for key in WRAPPERS if isinstance(held.get(key), dict)), None)
        if inside is None:
            break
        held = inside
    if not isinstance(held, dict):
        raise ValueError(f"{path.name} holds a {type(held).__name__}; need a dict of tensors.")
    tensors = {str(name): held[name] for name in held if isinstance(held[name], Tensor)}
    if not tensors:
        raise ValueError(f"{path.name} holds no tensors; need a file of weights.")
    return tensors


def plain_name(name: str) -> str:
    for mark in TRAINING:
        name = name.replace(mark, "")
    return name
