"""Noise schedules and solvers of rectified flow: free functions that know no network.

x = (1 - sigma) x0 + sigma noise; the velocity is noise - x0 = (x - x0) / sigma, and sigma runs from
1 down to 0. A solver takes (x, x0, sigmas, step, history, draw) at sigmas[step], where x0 is the
clean latent predicted from x and draw(like) is the run's next noise, and gives x at
sigmas[step + 1] with the history its next step needs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import expm1, inf, log

import torch
from torch import Tensor

History = tuple[Tensor, ...]
Draw = Callable[[Tensor], Tensor]
Solver = Callable[[Tensor, Tensor, list[float], int, History, Draw], tuple[Tensor, History]]


def mix(latent: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(1 - sigma) latent + sigma noise"""
    sigma = sigma.to(latent.device)
    return (1 - sigma) * latent + sigma * noise


def add_noise(x: Tensor, noise: Tensor, sigma: float, cleaner: float) -> Tensor:
    """From level `cleaner` back up to `sigma` (RePaint, arXiv:2201.09865, for straight flows)."""
    keep = (1 - sigma) / (1 - cleaner)
    return keep * x + (sigma**2 - (keep * cleaner) ** 2) ** 0.5 * noise


def shift_for(tokens: int) -> float:
    """How far our own weights' schedule leans towards 1: more tokens hide less in the same noise.

    The square root rule of Esser et al. 2024 (arXiv:2403.03206, eq. 23), 6 at 80 tokens: below a
    sigma of about 0.97 such a latent still shows its scene, and nothing is left for text to say.
    """
    return max(1.0, 6.0 * (tokens / 80) ** 0.5)


def shifted_sigmas(
    steps: int, shift: float = 1.0, denoise: float = 1.0, schedule: str = "linear"
) -> Tensor:
    """Noise levels of a run, (steps + 1) float32, falling to 0; shift s -> k s / (1 + (k - 1) s).

    `denoise` < 1 keeps the last `steps` of a longer schedule, so that the run starts from a latent
    with about that much noise. `schedule` is what is shifted: "linear" from 1 to 0, or what the
    UniPC of "wan" (the official code) and of "diffusers" has, which differ at the ends.
    """
    if steps < 1 or not 0 < denoise <= 1 or not 0 < shift < inf:
        raise ValueError(
            f"Got {steps} steps, denoise {denoise} and shift {shift}; need at least 1 step, "
            "denoise above 0 and up to 1, and a shift above 0."
        )
    ends = {"linear": (1.0, 0.0), "wan": (0.999, 0.0), "diffusers": (1.0, 0.001)}
    if schedule not in ends:
        raise ValueError(f"Got schedule {schedule!r}; need one of {', '.join(ends)}.")
    total = max(int(steps / denoise), steps)
    even = torch.linspace(*ends[schedule], total + 1, dtype=torch.float64)[:-1]
    sigmas = shift * even / (1 + (shift - 1) * even)
    if schedule == "diffusers":
        sigmas = sigmas.clamp(max=1 - 1e-6)
    return torch.cat((sigmas, sigmas.new_zeros(1)))[-steps - 1 :].float()


def euler(
    x: Tensor, x0: Tensor, sigmas: list[float], step: int, history: History, draw: Draw
) -> tuple[Tensor, History]:
    """One straight step along the velocity."""
    sigma, following = sigmas[step], sigmas[step + 1]
    return x + (following - sigma) / sigma * (x - x0), ()


def unipc(
    x: Tensor, x0: Tensor, sigmas: list[float], step: int, history: History, draw: Draw
) -> tuple[Tensor, History]:
    """One step of UniPC-bh2 of order 2, predicting x0 (Zhao et al. 2023, arXiv:2302.04867).

    The history is the corrected x of the last step, its x0 and the x0 before that. The first step
    and the last are of order 1.
    """
    if history:
        x = correct(x0, sigmas, step, history)
    earlier = history[1] if history and step + 2 < len(sigmas) else None
    following = predict(x, x0, sigmas, step, earlier)
    return following, (x, x0, *history[1:2])


def lcm(
    x: Tensor, x0: Tensor, sigmas: list[float], step: int, history: History, draw: Draw
) -> tuple[Tensor, History]:
    """The prediction with fresh noise at the next level (Luo et al. 2023, arXiv:2310.04378).

    For weights distilled to a few steps, whose prediction from any level is already sharp.
    """
    following = sigmas[step + 1]
    return (x0 if following == 0 else (1 - following) * x0 + following * draw(x)), ()


SOLVERS: dict[str, Solver] = {"euler": euler, "unipc": unipc, "lcm": lcm}


def log_snr_half(sigma: float) -> float:
    """log(alpha / sigma), alpha = 1 - sigma; infinite at both ends."""
    if sigma in (0.0, 1.0):
        return inf if sigma == 0.0 else -inf
    return log((1 - sigma) / sigma)


def predict(
    x: Tensor, x0: Tensor, sigmas: list[float], step: int, earlier_x0: Tensor | None
) -> Tensor:
    """UniP: x at sigmas[step + 1]; order 2 where there is an earlier x0."""
    sigma, following = sigmas[step], sigmas[step + 1]
    h = log_snr_half(following) - log_snr_half(sigma)
    weight = (1 - following) * expm1(-h)
    out = (following / sigma) * x - weight * x0
    if earlier_x0 is None:
        return out
    ratio = (log_snr_half(sigmas[step - 1]) - log_snr_half(sigma)) / h
    return out - (0.5 * weight / ratio) * (earlier_x0 - x0)


def correct(x0: Tensor, sigmas: list[float], step: int, history: History) -> Tensor:
    """UniC: x at sigmas[step] again, from the step before and the x0 that its result led to."""
    last_x, last_x0, *earlier = history
    last, sigma = sigmas[step - 1], sigmas[step]
    h = log_snr_half(sigma) - log_snr_half(last)
    phi1 = expm1(-h)
    weight = (1 - sigma) * phi1
    out = (sigma / last) * last_x - weight * last_x0
    if not earlier:
        return out - (0.5 * weight) * (x0 - last_x0)
    ratio = (log_snr_half(sigmas[step - 2]) - log_snr_half(last)) / h
    phi2 = -phi1 / h - 1
    first = phi2 / phi1
    second = 2 * (-phi2 / h - 0.5) / phi1
    old_share = (second - first) / (ratio - 1)  # the two shares solve [[1,1],[ratio,1]] = b
    change = (old_share / ratio) * (earlier[0] - last_x0) + (first - old_share) * (x0 - last_x0)
    return out - weight * change
