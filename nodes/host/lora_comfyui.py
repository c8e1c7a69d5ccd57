"""LoRA files on a MODEL of ComfyUI's: as patches of core's own kind.

So core merges them where it puts weights on a device, takes them out again and knows them by hash.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy.weight_adapter import LoRAAdapter

from ...models.lora import Patch, read_lora

NETWORK = "diffusion_model."


def add_lora(model: Any, path: Path, strength: float) -> Any:
    """The MODEL with a LoRA file on top of what it has; ValueError for one that does not fit."""
    weights = model.model_state_dict(NETWORK)
    shapes = {name.removeprefix(NETWORK): tuple(w.shape) for name, w in weights.items()}
    patches = read_lora(path, shapes)
    if not strength:
        return model
    patched = model.clone()
    cores = {NETWORK + name: as_core(patch) for name, patch in patches.items()}
    patched.add_patches(cores, strength)
    return patched


def as_core(patch: Patch) -> Any:
    """A patch in core's own form."""
    if patch.diff is not None:
        return "diff", (patch.diff,)
    no_middle = no_dora = no_reshape = None
    weights = (patch.up, patch.down, patch.alpha, no_middle, no_dora, no_reshape)
    return LoRAAdapter(set(), weights)
