"""Any flow MODEL of ComfyUI's as a Denoiser, with its prompts, guidance, wrappers and patches.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import comfy.patcher_extension
import comfy.samplers
import torch
from torch import Tensor

from ...models.flow import DenoiseState
from ...models.guidance import Denoiser
from .comfyui_model import PatchDiTModel

Result = TypeVar("Result")


def fill_mode(model: Any) -> str:
    """How known latents are held: "frames" (at timestep 0) by our own weights, else "replace"."""
    ours = isinstance(model.model, PatchDiTModel) and model.model.config.frame_timesteps
    return "frames" if ours else "replace"


class Steps(comfy.samplers.Sampler):
    """A sampler that lends the guided model to `work` and keeps what it returns.

    x stays in model space and the schedule is the whole run's, so that wrappers see the same step
    numbers however the run is cut up.
    """

    def __init__(self, work: Callable[[Denoiser], Any]):
        self.work = work
        self.result: Any = None

    def sample(
        self,
        model_wrap,
        sigmas,
        extra_args,
        callback,
        noise,
        latent_image=None,
        denoise_mask=None,
        disable_pbar=False,
    ):
        def denoise(x_BCTHW: Tensor, sigma: Tensor) -> Tensor:
            sigma_B = sigma.flatten(1).amax(1) if sigma.ndim > 1 else sigma  # the mask has the rest
            x0 = model_wrap(x_BCTHW.to(noise), sigma_B.to(noise), **extra_args)
            return x0.to(x_BCTHW)

        self.result = self.work(denoise)
        return noise


class HostDenoiser:
    """Any flow MODEL with prompts and guidance, for as long as a piece of work takes."""

    def __init__(self, model: Any, positive: list, negative: list, cfg: float):
        self._model = model
        self._guider = comfy.samplers.CFGGuider(model)
        self._guider.set_conds(positive, negative)
        self._guider.set_cfg(cfg)
        name = "sampler_calc_cond_batch_function"
        self._guider.model_options = {name: one_by_one, **model.model_options}

    def run(self, state: DenoiseState, work: Callable[[Denoiser], Result]) -> Result:
        """`work(denoiser)`, with the model loaded and the host's wrappers around it."""
        warn_of_wrappers(self._model)
        steps = Steps(work)
        mask = (~state.known).float() if state.fill == "frames" and state.known.any() else None
        like = state.x
        self._guider.sample(
            like, torch.zeros_like(like), steps, state.sigmas, mask, disable_pbar=True, seed=0
        )
        return steps.result


def one_by_one(args: dict) -> list[Tensor]:
    """Positive and negative prompt in calls of their own.

    Core batches them by free memory, and the same seed would give other digits on another day.
    """
    rest = args["input"], args["sigma"], args["model_options"]
    return [
        comfy.samplers.calc_cond_batch(args["model"], [cond], *rest)[0] for cond in args["conds"]
    ]


def warn_of_wrappers(model: Any) -> None:
    """Name wrappers that keep state over a run: N single steps then differ from one run of N."""
    kinds = comfy.patcher_extension.WrappersMP
    names = {
        str(name)
        for kind in (kinds.OUTER_SAMPLE, kinds.DIFFUSION_MODEL, kinds.SAMPLER_SAMPLE)
        for name, wrappers in model.wrappers.get(kind, {}).items()
        if wrappers
    }
    if names:
        logging.warning(
            "Denoise Step: %s on this MODEL start afresh at every node, so steps taken one by one"
            " can differ from one run.",
            ", ".join(sorted(names)),
        )


def as_denoiser(model: Any, positive: list, negative: list, cfg: float) -> HostDenoiser:
    return HostDenoiser(model, positive, negative, cfg)
