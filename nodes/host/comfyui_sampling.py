"""Any flow MODEL of ComfyUI's as a Denoiser, with its prompts, guidance, wrappers and patches.

B batch, C channels, T/H/W latent frames/rows/columns.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import comfy.conds
import comfy.patcher_extension
import comfy.samplers
import torch
from torch import Tensor

from ...models.flow import DenoiseState
from ...models.guidance import Denoiser
from .canvas_comfyui import other_wrappers
from .comfyui_model import LEVELS, RUN_CACHE, RunCache
from .native import fill_mode, name_of, own_config

Result = TypeVar("Result")


class Steps(comfy.samplers.Sampler):
    """A sampler that lends the guided model to `work` and keeps what it returns.

    x stays in model space and the schedule is the whole run's, so that wrappers see the same step
    numbers however the run is cut up. What can be reused is kept for one call of `sample`, in which
    only hooks on a prompt (core's scheduled LoRAs) change weights: with those nothing is kept.
    `hook_patches` are those of a run around this one, whose weights its calls in `work` need.
    """

    def __init__(self, work: Callable[[Denoiser], Any], hook_patches: dict):
        self.work = work
        self.hook_patches = hook_patches
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
        patcher = model_wrap.model_patcher
        name = LEVELS if own_config(patcher) is not None else DENOISE_MASK
        patcher.hook_patches = {**self.hook_patches, **patcher.hook_patches}
        extra_args = dict(extra_args)
        entries = [entry for prompt in model_wrap.conds.values() for entry in prompt]
        if not any(entry.get("hooks") for entry in entries):
            extra_args["model_options"] = with_cache(extra_args["model_options"])

        def denoise(x_BCTHW: Tensor, sigma: Tensor) -> Tensor:
            x, sigma = x_BCTHW.to(noise), sigma.to(noise)
            share = None if sigma.ndim == 1 else level_shares(sigma, x)
            give_levels(model_wrap.conds, share, name)
            sigma_B = sigma if share is None else sigma.amax().expand(len(x))
            x0 = model_wrap(x, sigma_B, **extra_args)
            # Core takes x0 = x - sigma_B v; a cell at a share of that level goes as much less far.
            return (x0 if share is None else torch.lerp(x, x0, share)).to(x_BCTHW)

        self.result = self.work(denoise)
        return noise


def with_cache(model_options: dict) -> dict:
    """The options with a new RunCache for the network."""
    options = {**model_options.get("transformer_options", {}), RUN_CACHE: RunCache()}
    return {**model_options, "transformer_options": options}


def level_shares(sigma: Tensor, x_BCTHW: Tensor) -> Tensor:
    """(B,1,T,H,W), noise levels (B,T) or (B,T,H,W) as shares of the highest, exactly 1 there."""
    top = sigma.amax()
    share = sigma / top if top > 0 else torch.zeros_like(sigma)
    return (
        share.reshape(*share.shape, *(1,) * (4 - share.ndim)).unsqueeze(1).expand_as(x_BCTHW[:, :1])
    )


DENOISE_MASK = "denoise_mask"  # what core's WAN22 and LTXV make timesteps of frames and tokens of


class Levels(comfy.conds.CONDNoiseShape):
    """Each cell's share of the step's level: a conditioning value that core cuts as it does x."""


def give_levels(conds: dict[str, list[dict]], share_B1THW: Tensor | None, name: str) -> None:
    """Tell the network each cell's share of the step's level, or that all have the whole.

    It goes with the prompts of the run, which are the guider's own copies, so that core cuts it
    with x for areas and context windows; `name` is what the network's model class reads.
    """
    for entries in conds.values():
        for entry in entries:
            given = entry["model_conds"].items()
            entry["model_conds"] = {k: v for k, v in given if not isinstance(v, Levels)}
            if share_B1THW is not None:
                entry["model_conds"][name] = Levels(share_B1THW)


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
        """`work(denoiser)`, with the model loaded and the host's wrappers around it.

        `work` may hold a run of another denoiser of the same MODEL. Core then registers that one's
        hooks in place of this one's, so they are put together inside and set back after.
        """
        check_fill(self._model, state)
        warn_of_wrappers(self._model)
        patcher = self._guider.model_patcher
        hooks = patcher.hook_patches, patcher.hook_patches_backup
        steps = Steps(work, hooks[0])
        like = state.x
        try:
            self._guider.sample(
                like, torch.zeros_like(like), steps, state.sigmas, disable_pbar=True, seed=0
            )
        finally:
            patcher.hook_patches, patcher.hook_patches_backup = hooks
        return steps.result


def check_fill(model: Any, state: DenoiseState) -> None:
    """ValueError where a run holds what is known in a way that the weights were not trained for."""
    way = fill_mode(model, state.mask)
    if state.fill in ("replace", way) or not bool((state.mask < 1).any()):
        return
    held = "at noise level 0" if state.fill == "frames" else "by its conditioning"
    raise ValueError(
        f"This run keeps known latents {held}, for which MODEL, {name_of(model)}, was not trained:"
        " start it anew with this MODEL (Start Denoising)."
    )


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
    others = other_wrappers(model)
    names = {
        str(name)
        for kind in (kinds.OUTER_SAMPLE, kinds.DIFFUSION_MODEL, kinds.SAMPLER_SAMPLE)
        for name, wrappers in others.get(kind, {}).items()
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
