"""The pack's own wire types: what ComfyUI has no word for.

B batch, L tokens, P patch values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor

from ..models.assembly import Piece
from ..models.flow import DenoiseState
from ..models.patches import Grid
from ..models.timeline import pixel_frames
from .api import io
from .latent_dicts import usual_cell

Patches = io.Custom("PATCHES")
DenoiseStateWire = io.Custom("DENOISE_STATE")
PlanWire = io.Custom("PLAN")
ShotsWire = io.Custom("SHOTS")

BOUNDARY = 0.0  # as a setting: the model's own, see host/facts.py


@dataclass(frozen=True)
class PatchedLatent:
    """A latent video cut into spacetime-patch tokens; `rest` is what else its LATENT carried.

    `selected_BL` says which of them to denoise, the others being kept; None: nothing was said.
    """

    tokens_BLP: Tensor
    grid: Grid
    rest: dict[str, Any] = field(default_factory=dict)
    selected_BL: Tensor | None = None  # bool

    @property
    def stride(self) -> int:
        """Pixel frames per latent frame after the first, which nothing but the channels tell."""
        return usual_cell(self.tokens_BLP.shape[-1] // prod(self.grid.patch))[0]

    @property
    def frames(self) -> int:
        """Pixel frames of the clip, with the padding at its end."""
        return pixel_frames(self.grid.latent_shape[0], self.stride)


@dataclass(frozen=True)
class Denoising:
    """A run under way: who denoises, towards which prompt, and how far it has come.

    The run's latents are in the model's own space; `rest` is what else its LATENT carried. The
    `vae` encodes what is known for weights that are told so through their prompts. Steps from a
    noise level (sigma) below `boundary` are `model_low`'s, if there is one.
    """

    model: Any
    positive: list
    negative: list
    cfg: float
    state: DenoiseState
    rest: dict[str, Any] = field(default_factory=dict)
    vae: Any | None = None
    model_low: Any | None = None
    boundary: float = 0.0

    def spans(self, at: int, until: int) -> list[tuple[Any, int]]:
        """Who takes the steps from `at` to `until`: MODELs, each with the step it goes up to."""
        high = until
        if self.model_low is not None:  # in float32, as the sigmas are: 0.9 has to be 0.9
            high = int((self.state.sigmas[:-1] >= self.boundary).sum())
        spans = [(self.model, min(high, until)), (self.model_low, until)]
        starts = at, max(at, high)
        return [span for span, start in zip(spans, starts, strict=True) if start < span[1]]


@dataclass(frozen=True)
class Plan:
    """How a denoised window becomes the whole clip again.

    `latent` is the window as it was prepared, with its noise mask: what it keeps is pasted back.
    `parts` are the latents given out, in order: given ones, and slices of the window's frames.
    `pieces` are the frames given out; made ones are decoded from the window.
    """

    vae: Any
    latent: dict[str, Any]
    parts: tuple[Tensor | slice, ...]
    pieces: tuple[Piece, ...]
    fps: float
    size: tuple[int, int]  # height and width in pixels
    audio: dict | None
    seams: tuple[int, ...]  # frames at which another piece begins
    report: str

    @property
    def seams_text(self) -> str:
        """The seams as Seam Report reads them."""
        return ", ".join(map(str, sorted(set(self.seams))))


@dataclass(frozen=True)
class Shot:
    """One shot of a storyboard, as it was asked for; a SHOTS wire carries a tuple of them."""

    prompt: str
    seconds: float
    camera: str  # a name of `shots.CAMERAS`
    continues: bool  # goes on from the shot before; else a cut
    seed: int | None  # None: the storyboard's
    locked: bool  # never made again: what was kept of it is used
