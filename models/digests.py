"""One sha256 over values of any kind: the same in every process, another for any other value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any
from uuid import UUID

import torch
from torch import Tensor, nn

WHOLE = 1 << 25  # bytes of weights that are read whole; of more, a sample of each tensor
SAMPLES = 64

PLAIN = (str, bytes, int, float, complex, type(None))


def digest(value: Any, sample: bool = False) -> str:
    """sha256, as hexadecimal, of a value and all that it holds.

    Functions count by name, code and what they closed over, other objects by class and attributes,
    modules by their weights. Addresses and random ids (UUID) do not count, so that another process
    says the same. With `sample`, tensors count as in `digest_weights`.
    """
    hashed = hashlib.sha256()
    _feed(hashed, value, sample, ())
    return hashed.hexdigest()


def digest_weights(named: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 of weights by name, shape, type and values, on whatever device they are.

    Up to 32 MB count in full; of more, up to 64 values of each tensor, evenly spread: training,
    merging and converting change these too, and no network is too large to be read so.
    """
    tensors = sorted(named, key=lambda pair: pair[0])
    sample = sum(t.numel() * t.element_size() for _, t in tensors) > WHOLE
    hashed = hashlib.sha256()
    for name, tensor in tensors:
        hashed.update(name.encode())
        _feed_tensor(hashed, tensor, sample)
    return hashed.hexdigest()


def _feed_tensor(hashed: Any, tensor: Tensor, sample: bool) -> None:
    tensor = getattr(tensor, "_qdata", tensor).detach()  # what a quantised tensor wraps
    hashed.update(f"{tuple(tensor.shape)} {tensor.dtype} ".encode())
    if tensor.device.type == "meta" or not tensor.numel():
        return
    if sample and tensor.numel() > SAMPLES:
        while not tensor.is_contiguous():  # without a copy of the whole
            tensor = tensor[0]
        flat = tensor.reshape(-1)
        tensor = flat[:: max(1, len(flat) // SAMPLES)][:SAMPLES]
    hashed.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _feed(hashed: Any, value: Any, sample: bool, above: tuple[int, ...]) -> None:
    """Hash one value; `above` are the ids of what holds it, so that a circle ends."""
    hashed.update(f"{type(value).__module__}.{type(value).__qualname__}(".encode())
    if isinstance(value, PLAIN):
        hashed.update(repr(value).encode())
    elif isinstance(value, Tensor):
        _feed_tensor(hashed, value, sample)
    elif isinstance(value, nn.Module):
        hashed.update(digest_weights(value.state_dict().items()).encode())
        simple = {name: v for name, v in vars(value).items() if isinstance(v, PLAIN)}
        _feed(hashed, simple, sample, above)
    elif id(value) not in above and not isinstance(value, UUID):
        for part in _parts(value):
            _feed(hashed, part, sample, (*above, id(value)))
    hashed.update(b")")


def _parts(value: Any) -> list[Any]:
    """What a value is made of, in an order that every process agrees on."""
    match value:
        case Mapping():
            return [part for key in sorted(value, key=repr) for part in (key, value[key])]
        case list() | tuple():
            return list(value)
        case set() | frozenset():
            return sorted(digest(part) for part in value)
        case type():
            return [value.__module__, value.__qualname__]
        case CodeType():
            return [value.co_code, value.co_names, value.co_consts]
        case MethodType():
            return [value.__func__, value.__self__]
        case FunctionType():
            held = [_contents(cell) for cell in value.__closure__ or ()]
            given = [value.__defaults__, value.__kwdefaults__]
            return [value.__module__, value.__qualname__, value.__code__, *given, held]
        case partial():
            return [value.func, value.args, value.keywords]
    if is_dataclass(value):
        return [part for f in fields(value) for part in (f.name, getattr(value, f.name))]
    name = getattr(value, "__qualname__", None) or repr(value) * (type(value) in _NAMED)
    return [name, value.__dict__ if hasattr(value, "__dict__") else _pickled(value)]


def _pickled(value: Any) -> Any:
    """What pickle would keep of an object without a `__dict__`: an array, one with slots."""
    try:
        kept = value.__reduce_ex__(2)
    except Exception:  # whatever the class raises: it has nothing to say
        return {}
    parts = kept if isinstance(kept, tuple) else (kept,)
    return [list(part) if isinstance(part, Iterator) else part for part in parts]


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing in it yet
        return None


_NAMED = (torch.dtype, torch.device, range, slice)
