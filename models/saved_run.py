"""A run in a file of its own: its state, what guides it, and which model it belongs to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from .digests import digest
from .flow import DenoiseState
from .state_files import load_state, save_state
from .tensor_files import read_header, read_tensors, save_checkpoint

RUN_KEY = "patchdit.run"
DIGEST_KEY = "patchdit.digest"  # of the tensors and all other metadata
VERSION = 2
GUIDE = "guide."  # what the names of tensors that are not the state's begin with


@dataclass(frozen=True)
class SavedRun:
    """What a file holds; `guide` is whatever of JSON's values and tensors the saver put there."""

    state: DenoiseState
    guide: dict[str, Any]
    fingerprint: str


def save_run(path: str | Path, run: SavedRun) -> None:
    """Write a run, of whose guide all `can_save`, to a safetensors file, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    guide = _flatten(run.guide, tensors)
    with TemporaryDirectory(dir=Path(path).parent, prefix=".saving-") as folder:
        bare = Path(folder) / "state.safetensors"
        save_state(run.state, bare)
        tensors |= read_tensors(bare)
        metadata = dict(read_header(bare).metadata)
    about = {"version": VERSION, "fingerprint": run.fingerprint, "guide": guide}
    metadata[RUN_KEY] = json.dumps(about)
    metadata[DIGEST_KEY] = digest((tensors, metadata))
    save_checkpoint(path, tensors, metadata)


def load_run(path: str | Path) -> SavedRun:
    """The run that `save_run` wrote, on the CPU; a ValueError says what else the file is."""
    name = Path(path).name
    metadata = read_header(path).metadata
    if RUN_KEY not in metadata:
        raise ValueError(f"{name} holds no denoising run; need a file of Save Denoise State.")
    damaged = f"{name} is damaged: its values are not those saved; save it again."
    try:
        about = json.loads(metadata[RUN_KEY])
        version = about["version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(damaged) from error
    if version != VERSION:
        raise ValueError(
            f"{name} was saved by another version of this pack (format {version!r}, this one"
            f" reads {VERSION}); save the state again with this one."
        )
    tensors = read_tensors(path)
    told = metadata.pop(DIGEST_KEY, None)
    if digest((tensors, metadata)) != told:
        raise ValueError(damaged)
    return SavedRun(load_state(path), _restore(about["guide"], tensors), about["fingerprint"])


def can_save(value: Any) -> bool:
    """Whether a value consists of tensors and JSON's values alone."""
    try:
        _flatten(value, {}, copy=False)
    except TypeError:
        return False
    return True


def _flatten(value: Any, tensors: dict[str, Tensor], copy: bool = True) -> Any:
    """JSON for a value; its tensors go to `tensors`. TypeError for a value of another kind."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        name = f"{GUIDE}{len(tensors)}"
        tensors[name] = value.detach().cpu().clone() if copy else value
        return {"tensor": name}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_flatten(part, tensors, copy) for part in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _flatten(part, tensors, copy) for key, part in value.items()}}
    raise TypeError(f"{type(value).__name__} cannot be written to a file")


def _restore(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The value that `_flatten` made JSON of."""
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "dict":
        return {key: _restore(part, tensors) for key, part in inner.items()}
    parts = [_restore(part, tensors) for part in inner]
    return tuple(parts) if kind == "tuple" else parts
