"""LoRA files on a MODEL where there is no ComfyUI: merged into a copy of the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...models.lora import with_lora
from .duck import Model


def add_lora(model: Model, path: Path, strength: float, half: str = "") -> Model:
    """The MODEL with a LoRA file on top of what it has; ValueError for one that does not fit.

    `half` ("high" or "low") is the one to read of a file for both halves of Wan 2.2.
    """
    return replace(model, network=with_lora(model.network, path, strength, half))
