"""Denoising by rectified flow, as few or as many steps at a time as wanted.

Everything is in-filling: some cells of a latent video are known, the rest is noise at first. All
that a run needs is in one immutable DenoiseState, so N single steps give what one run of N gives,
bit for bit.

Shapes: B batch, C channels, T H W latent frames, rows, columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .config import WAN_PATCH, PatchSize
from .patches import spread_maximum
from .solvers import SOLVERS, History, add_noise, mix, shift_for, shifted_sigmas

__all__ = [
    "SOLVERS",
    "DenoiseState",
    "denoise",
    "denoise_step",
    "edit",
    "finish",
    "noise_levels",
    "shift_for",
    "shifted_sigmas",
    "start",
]

FILLS = ("frames", "replace", "native")

Predict = Callable[[Tensor, Tensor], Tensor]  # a Denoiser: (x_BCTHW, sigma) -> x0_BCTHW


@dataclass(frozen=True)
class DenoiseState:
    """A run between two steps.

    A cell whose mask is 0 is known and held at `latent` to the end; one whose mask is m is held for
    the first 1 - m of the steps, then set free (Differential Diffusion, arXiv:2306.00950). With
    fill "frames" held cells are clean and the denoiser is told so, by a sigma of 0; with "replace"
    they carry the run's own noise level. Tokens are known as a whole or not at all: a known cell of
    a patch that is not wholly known is held at the run's noise level in both.

    With fill "native" the weights' own conditioning says what is known, so nothing is held on the
    way: only the prediction and the end show the latent where the mask is 0, and any other mask
    generates.
    """

    x: Tensor  # (B,C,T,H,W) float32, at sigmas[step]
    latent: Tensor  # (B,C,T,H,W) clean
    mask: Tensor  # (B,1,T,H,W), 1 generate, 0 keep; between them, keep for a while
    noise: Tensor  # (B,C,T,H,W), what x was mixed with at the start
    sigmas: Tensor  # (steps + 1) falling to 0, on the CPU
    random_state: Tensor  # (1 or B, bytes) of the generators of later noise
    step: int = 0
    solver: str = "euler"
    fill: str = "frames"
    patch: PatchSize = WAN_PATCH
    renoise: int = 0  # times that every step is gone back and taken again (RePaint)
    history: History = ()
    predicted: Tensor | None = None

    @property
    def steps_left(self) -> int:
        return len(self.sigmas) - 1 - self.step

    @property
    def known(self) -> Tensor:
        """(B,1,T,H,W), true where the clean latent is given now."""
        return self.known_at(self.step)

    def known_at(self, step: int) -> Tensor:
        """(B,1,T,H,W), true where the clean latent is given at a step."""
        if self.fill == "native":
            return self.mask == 0
        share = step / (len(self.sigmas) - 1)
        return (self.mask == 0) | (self.mask < 1 - share - 1e-6)

    def held_at(self, step: int) -> Tensor:
        """(B,1,T,H,W), true where x is held at the latent at a step."""
        return self.known_at(step) & (self.fill != "native")

    @property
    def x0(self) -> Tensor:
        """The clean latent as predicted by the last step; before the first, the latent itself."""
        return self.latent if self.predicted is None else self.predicted


def start(
    latent_BCTHW: Tensor,
    mask: Tensor | None,
    sigmas: Tensor,
    seed: int | Sequence[int],
    solver: str = "euler",
    fill: str = "frames",
    patch: PatchSize = WAN_PATCH,
    renoise: int = 0,
) -> DenoiseState:
    """A run before its first step, from a clean latent mixed with noise at sigmas[0].

    `mask` (B,1,T,H,W) is 1 where to generate, 0 where to keep, and between them where to keep for
    a share of the steps; None generates everything. One `seed` draws the noise of the whole batch
    at once, as ComfyUI does; a list has one per item, whose noise is then the same in any batch.
    """
    latent = latent_BCTHW.float()
    if mask is None:
        mask = torch.ones_like(latent[:, :1])
    check_run(latent, mask, sigmas)
    if solver not in SOLVERS or fill not in FILLS or renoise < 0:
        raise ValueError(
            f"Got solver {solver!r}, fill {fill!r} and {renoise} renoisings; need one of "
            f"{', '.join(SOLVERS)}, one of {', '.join(FILLS)}, and no negative number."
        )
    seeds = [seed] if isinstance(seed, int) else list(seed)
    if not isinstance(seed, int) and len(seeds) != len(latent):
        raise ValueError(f"Got {len(seeds)} seeds for a batch of {len(latent)}; need one for each.")
    generators = [torch.Generator().manual_seed(s).get_state() for s in seeds]
    draw = Draw(torch.stack(generators))
    noise = draw(latent)
    sigmas = sigmas.detach().float().cpu()
    state = DenoiseState(
        x=mix(latent, noise, sigmas[0]),
        latent=latent,
        mask=mask.float().to(latent.device).expand_as(latent[:, :1]),
        noise=noise,
        sigmas=sigmas,
        random_state=draw.random_state,
        solver=solver,
        fill=fill,
        patch=PatchSize(*patch),
        renoise=renoise,
    )
    return replace(state, x=hold_known(state, state.x, 0))


def denoise_step(state: DenoiseState, denoiser: Predict) -> DenoiseState:
    """The run one step further; the denoiser is given x and a sigma as `noise_levels` makes it."""
    if state.steps_left < 1:
        raise ValueError(f"All {state.step} steps of this run are done.")
    sigmas, solver = state.sigmas.tolist(), SOLVERS[state.solver]
    sigma = noise_levels(state)
    x, history, draw = state.x, state.history, Draw(state.random_state)
    for again in range(state.renoise, -1, -1):
        x0 = torch.where(state.held_at(state.step), state.latent, denoiser(x, sigma))
        following, history = solver(x, x0, sigmas, state.step, history, draw)
        following = hold_known(state, following, state.step + 1)
        if freed_at(state, state.step + 1).any():
            history = ()
        if again:
            following = add_noise(following, draw(x), *sigmas[state.step : state.step + 2])
            x, history = hold_known(state, following, state.step), ()
    return replace(
        state,
        x=following,
        step=state.step + 1,
        history=history,
        random_state=draw.random_state,
        predicted=torch.where(state.known, state.latent, x0),
    )


def denoise(
    state: DenoiseState,
    denoiser: Predict,
    steps: int | None = None,
    callback: Callable[[DenoiseState], None] | None = None,
) -> DenoiseState:
    """The run `steps` further, or to its end; `callback` sees the state after every step."""
    for _ in range(state.steps_left if steps is None else steps):
        state = denoise_step(state, denoiser)
        if callback is not None:
            callback(state)
    return state


def finish(state: DenoiseState) -> Tensor:
    """The clean latent (B,C,T,H,W) of a run that is done, with what was kept exactly as given."""
    if state.steps_left:
        raise ValueError(
            f"This run has taken {state.step} of {len(state.sigmas) - 1} steps; take the other "
            f"{state.steps_left} before finishing it."
        )
    return torch.where(state.mask == 0, state.latent, state.x)


def edit(
    state: DenoiseState,
    x: Tensor | None = None,
    latent: Tensor | None = None,
    mask: Tensor | None = None,
    sigmas: Tensor | None = None,
) -> DenoiseState:
    """The run with other values from here on; always forgets the solver's history.

    Call it without values when the prompt changes. Cells that a new mask frees start from the
    latent at the present noise level; a new schedule has to agree on it.
    """
    latent = state.latent if latent is None else latent.float()
    mask = state.mask if mask is None else mask.float()
    new_sigmas = state.sigmas if sigmas is None else sigmas.detach().float().cpu()
    check_run(latent, mask, new_sigmas)
    if latent.shape != state.x.shape or (x is not None and x.shape != state.x.shape):
        raise ValueError(f"This run's latents are {tuple(state.x.shape)}; got another shape.")
    level = state.sigmas[state.step]
    if len(new_sigmas) <= state.step or (new_sigmas[state.step] - level).abs() > 1e-6:
        raise ValueError(
            f"After {state.step} steps the noise level is {level:.6f}; the new sigmas need the "
            "same level at that place."
        )
    mask = mask.to(latent.device).expand_as(latent[:, :1])
    edited = replace(state, latent=latent, mask=mask, sigmas=new_sigmas, history=())
    freed = state.held_at(state.step) & ~edited.held_at(state.step)
    x = torch.where(freed, mix(latent, state.noise, level), state.x) if x is None else x.float()
    known = mix(latent, state.noise, cell_levels(edited, state.step))
    return replace(edited, x=torch.where(edited.held_at(state.step), known, x))


def noise_levels(state: DenoiseState) -> Tensor:
    """Sigmas for the denoiser: (B); where some are known, (B,T) by frame or (B,T,H,W) by cell."""
    levels = cell_levels(state, state.step).squeeze(1)
    by_frame = levels.flatten(2)
    if (levels == state.sigmas[state.step].to(levels.device)).all():
        return by_frame[:, 0, 0]
    if (by_frame == by_frame[..., :1]).all():
        return by_frame[..., 0]
    return levels


def cell_levels(state: DenoiseState, step: int) -> Tensor:
    """The noise level of every cell at a step, (B,1,T,H,W)."""
    sigma = state.sigmas[step].to(state.x.device)
    held = state.held_at(step)
    if state.fill == "replace" or not held.any():
        return sigma.expand_as(state.mask)
    return sigma * spread_maximum((~held).float().squeeze(1), state.patch).unsqueeze(1)


def freed_at(state: DenoiseState, step: int) -> Tensor:
    """(B,1,T,H,W), true where cells held until just before a step are held no longer."""
    return state.held_at(max(step - 1, 0)) & ~state.held_at(step)


def hold_known(state: DenoiseState, x: Tensor, step: int) -> Tensor:
    """x with its known cells, and those just set free, at the latent mixed to their level."""
    held = state.held_at(step) | freed_at(state, step)
    if not held.any():
        return x
    return torch.where(held, mix(state.latent, state.noise, cell_levels(state, step)), x)


def draw_noise(shape: torch.Size, random_state: Tensor) -> tuple[Tensor, Tensor]:
    """Normal noise from the CPU generators, one for the batch or one per item, and their states."""
    shape = shape if len(random_state) == 1 else torch.Size((1, *shape[1:]))
    noise, after = [], []
    for state in random_state:
        generator = torch.Generator()
        generator.set_state(state.clone())  # torch reads past a row that is a view
        noise.append(torch.randn(shape, generator=generator))
        after.append(generator.get_state())
    return torch.cat(noise), torch.stack(after)


class Draw:
    """The run's next noise whenever called, of the shape and on the device of what it is given."""

    def __init__(self, random_state: Tensor):
        self.random_state = random_state  # after all that was drawn

    def __call__(self, like: Tensor) -> Tensor:
        noise, self.random_state = draw_noise(like.shape, self.random_state)
        return noise.to(like.device)


def check_run(latent: Tensor, mask: Tensor, sigmas: Tensor) -> None:
    """Raise a ValueError unless these can be denoised."""
    if latent.ndim != 5 or not latent.numel():
        raise ValueError(f"A latent video is (B,C,T,H,W), not empty; got {tuple(latent.shape)}.")
    if not latent.isfinite().all():
        raise ValueError("The latent has values that are not numbers (NaN or infinite).")
    cells = latent[:, :1].shape
    if mask.ndim != 5 or any(m not in (1, c) for m, c in zip(mask.shape, cells, strict=True)):
        raise ValueError(f"Got a mask {tuple(mask.shape)}; this latent needs {tuple(cells)}.")
    if not ((mask >= 0) & (mask <= 1)).all():
        raise ValueError("The mask has values outside 0 to 1.")
    falls = sigmas.ndim == 1 and len(sigmas) > 1 and bool((sigmas.diff() < 0).all())
    if not falls or sigmas[0] > 1 or sigmas[-1] != 0:
        raise ValueError(
            f"Got sigmas {[round(s, 4) for s in sigmas.flatten().tolist()][:8]}; need two or more "
            "that fall from at most 1 to 0."
        )
