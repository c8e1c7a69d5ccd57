"""The pack's own wire types: what ComfyUI has no word for.

B batch, L tokens, P patch values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..models.flow import DenoiseState
from ..models.patches import Grid
from .api import io

Patches = io.Custom("PATCHES")
DenoiseStateWire = io.Custom("DENOISE_STATE")


@dataclass(frozen=True)
class PatchedLatent:
    """A latent video cut into spacetime-patch tokens; `rest` is what else its LATENT carried.

    `selected_BL` says which of them to denoise, the others being kept; None: nothing was said.
    """

    tokens_BLP: Tensor
    grid: Grid
    rest: dict[str, Any] = field(default_factory=dict)
    selected_BL: Tensor | None = None  # bool


@dataclass(frozen=True)
class Denoising:
    """A run under way: who denoises, towards which prompt, and how far it has come.

    The run's latents are in the model's own space; `rest` is what else its LATENT carried.
    """

    model: Any
    positive: list
    negative: list
    cfg: float
    state: DenoiseState
    rest: dict[str, Any] = field(default_factory=dict)
