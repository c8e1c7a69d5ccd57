"""LoRA files on a MODEL of ComfyUI's: as patches of core's own kind.

So core merges them where it puts weights on a device, takes them out again and knows them by hash.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.lora
import torch

from ...models.lora import Patch, read_lora

NETWORK = "diffusion_model."


def add_lora(model: Any, path: Path, strength: float, half: str = "") -> Any:
    """The MODEL with a LoRA file on top of what it has; ValueError for one that does not fit.

    `half` ("high" or "low") is the one to read of a file for both halves of Wan 2.2.
    """
    weights = model.model_state_dict(NETWORK)
    shapes = {name.removeprefix(NETWORK): tuple(w.shape) for name, w in weights.items()}
    patches = read_lora(path, shapes, lycoris=True, half=half)
    if not strength:
        return model
    patched = model.clone()
    cores = {NETWORK + name: as_core(patch) for name, patch in patches.items()}
    patched.add_patches(cores, strength)
    return patched


def as_core(patch: Patch) -> Any:
    """A patch in core's own form: what core's loader makes of the names that it knows best."""
    tensors = {
        "lora_up.weight": patch.up,
        "lora_down.weight": patch.down,
        "alpha": None if patch.alpha is None else torch.tensor(patch.alpha),
        "dora_scale": patch.dora_scale,
        "diff": patch.diff,
        **patch.lycoris,
    }
    named = {f"module.{end}": tensor for end, tensor in tensors.items() if tensor is not None}
    return comfy.lora.load_lora(named, {"module": "parameter"}, log_missing=False)["parameter"]
