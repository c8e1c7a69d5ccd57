"""Without ComfyUI: the same values and work as `comfyui.py`, straight over our own modules.

B batch, C channels, T/H/W latent frames/rows/columns. Latents inside a model are normalised per
channel ("model space"); LATENT wires carry raw VAE means.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ...models.blockworld import FOLDER
from ...models.digests import digest_weights
from ...models.flow import DenoiseState
from ...models.guidance import Denoiser, ModelDenoiser
from ...models.text import TextEncoder, Tokenizer
from ...models.transformer import PatchDiT
from ...models.video_vae import VideoVAE
from ...standalone.folders import (
    get_input_directory,
    get_output_directory,
    get_save_image_path,
)
from ...standalone.host import ProgressBar, get_torch_device, throw_if_interrupted
from ..clips import Latent, check_channels, samples_of
from .duck import Clip, Model, Vae

Result = TypeVar("Result")


def make_model(network: PatchDiT, vae: VideoVAE) -> Model:
    return Model(network.to(get_torch_device()), vae)


def make_clip(encoder: TextEncoder, tokenizer: Tokenizer) -> Clip:
    return Clip(encoder, tokenizer, _loader(encoder))


def make_vae(vae: VideoVAE) -> Vae:
    return Vae(vae, _loader(vae))


def _loader(module: torch.nn.Module) -> Callable[[], torch.device]:
    device = get_torch_device()
    module.to(device)
    return lambda: device


def prepare_latent(model: Model, latent: Latent) -> Tensor:
    """samples_BCTHW of a LATENT in the model's space; an empty latent stays as it is."""
    samples = samples_of(latent)
    check_channels(samples, model.network.config.in_channels)
    samples = samples.float().cpu()
    return model.vae.normalise(samples) if samples.any() else samples


def finish_latent(model: Model, samples_BCTHW: Tensor) -> Tensor:
    """Raw VAE means of samples in the model's space."""
    return model.vae.denormalise(samples_BCTHW)


def fill_mode(model: Model) -> str:
    """How known latents are held: "frames" (at timestep 0) if trained so, else "replace"."""
    return "frames" if model.network.config.frame_timesteps else "replace"


class AloneDenoiser:
    """Our network with prompts and guidance."""

    def __init__(self, model: Model, positive: list, negative: list, cfg: float):
        self._model = model
        self._contexts = context_of(positive, "positive"), context_of(negative, "negative")
        self._cfg = cfg

    def run(self, state: DenoiseState, work: Callable[[Denoiser], Result]) -> Result:
        """`work(denoiser)`; latents stay where the state has them, the network where it is."""
        device = get_torch_device()
        positive, negative = (context.to(device) for context in self._contexts)
        guided = ModelDenoiser(
            self._model.network, positive, negative, self._cfg, batching="sequential"
        )

        def denoise(x_BCTHW: Tensor, sigma: Tensor) -> Tensor:
            return guided(x_BCTHW.to(device), sigma.to(device)).to(x_BCTHW)

        with torch.no_grad():
            return work(denoise)


def context_of(conditioning: list, name: str) -> Tensor:
    """The text features of a CONDITIONING; several entries (areas, times) need ComfyUI."""
    if len(conditioning) != 1:
        raise ValueError(
            f"The {name} conditioning has {len(conditioning)} entries; without ComfyUI it must"
            " have one."
        )
    return conditioning[0][0]


def as_denoiser(model: Model, positive: list, negative: list, cfg: float) -> AloneDenoiser:
    return AloneDenoiser(model, positive, negative, cfg)


def progress(total: int) -> Callable[[int], None]:
    """A bar for the node that runs; `report(done)` also stops it once the user has cancelled."""
    bar = ProgressBar(total)

    def report(done: int) -> None:
        throw_if_interrupted()
        bar.update_absolute(done)

    return report


def step_reporter(model: Model, total: int) -> Callable[[int, Tensor], None]:
    """As `progress`; there is no canvas to show a preview on."""
    report = progress(total)
    return lambda done, x0_BCTHW: report(done)


def weights_folder() -> Path:
    return FOLDER


def fingerprint(model: Model) -> str:
    return digest_weights(model.network.state_dict().items())


def journal_folder() -> Path:
    """In the output folder: the temporary one is gone when a run is started again."""
    return Path(get_output_directory()) / ".patchdit"


def state_folders() -> list[Path]:
    return [Path(get_output_directory()), Path(get_input_directory())]


def new_state_path(prefix: str) -> Path:
    folder, name, counter, *_ = get_save_image_path(prefix, get_output_directory())
    return Path(folder) / f"{name}_{counter:05}_.safetensors"
