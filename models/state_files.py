"""A run between two steps in a safetensors file: what a saved state and the journal are made of."""

from __future__ import annotations

import json
from pathlib import Path

from .config import PatchSize
from .flow import FILLS, DenoiseState
from .solvers import SOLVERS
from .tensor_files import read_header, read_tensors, save_checkpoint

STATE_KEY = "patchdit.state"
TENSORS = ("x", "latent", "mask", "noise", "sigmas", "random_state")
VALUES = ("step", "solver", "fill", "patch", "renoise")


def save_state(state: DenoiseState, path: str | Path) -> None:
    """Write a run to a safetensors file, whole or not at all."""
    tensors = {name: getattr(state, name) for name in TENSORS}
    tensors |= {f"history.{i}": tensor for i, tensor in enumerate(state.history)}
    if state.predicted is not None:
        tensors["predicted"] = state.predicted
    values = {name: getattr(state, name) for name in VALUES}
    tensors = {name: tensor.cpu().clone() for name, tensor in tensors.items()}
    save_checkpoint(path, tensors, {STATE_KEY: json.dumps(values)})


def load_state(path: str | Path) -> DenoiseState:
    """The run that `save_state` wrote, on the CPU; a ValueError says what else the file is."""
    file = Path(path).name
    text = read_header(path).metadata.get(STATE_KEY)
    if text is None:
        raise ValueError(f"{file} holds no denoising run; need one saved by PatchDiT.")
    tensors = read_tensors(path)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} has unreadable {STATE_KEY} metadata; save it again.") from error
    history = sorted(name for name in tensors if name.startswith("history."))
    whole = isinstance(values, dict) and {*TENSORS} <= {*tensors} and {*VALUES} <= {*values}
    if not whole or values["solver"] not in [*SOLVERS] or values["fill"] not in FILLS:
        raise ValueError(f"{file} holds a denoising run of another version.")
    step, steps = values["step"], tensors["sigmas"].numel() - 1
    if type(step) is not int or not 0 <= step <= steps:
        raise ValueError(
            f"{file} holds a run of {steps} steps at step {step!r}; need a whole number from 0 to"
            f" {steps}: save the run again."
        )
    patch, renoise = values["patch"], values["renoise"]
    sizes = patch if isinstance(patch, list) and len(patch) == 3 else [0]
    if any(type(n) is not int or n < 1 for n in sizes) or type(renoise) is not int or renoise < 0:
        raise ValueError(
            f"{file} holds a run with patch {patch!r} and renoise {renoise!r}; need three whole"
            " numbers above 0 and one from 0 on: save the run again."
        )
    return DenoiseState(
        **{name: tensors[name] for name in TENSORS},
        **{name: values[name] for name in VALUES if name != "patch"},
        patch=PatchSize(*patch),
        history=tuple(tensors[name] for name in history),
        predicted=tensors.get("predicted"),
    )
