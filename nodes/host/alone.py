"""Without ComfyUI: the same values and work as `comfyui.py`, straight over our own modules.

B batch, C channels, T/H/W latent frames/rows/columns. Latents inside a model are normalised per
channel ("model space"); LATENT wires carry raw VAE means.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...models.digests import digest_weights
from ...models.families import VideoModelFile, load_video_model
from ...models.flow import DenoiseState
from ...models.guidance import Denoiser
from ...models.text import TextEncoder, Tokenizer
from ...models.transformer import PatchDiT
from ...models.video_vae import VideoVAE
from ...standalone.folders import (
    get_filename_list,
    get_full_path_or_raise,
    get_input_directory,
    get_models_directory,
    get_output_directory,
    get_save_image_path,
)
from ...standalone.host import (
    ProgressBar,
    executing_node,
    get_torch_device,
    session,
    throw_if_interrupted,
)
from ..latent_dicts import DEFAULT_FPS, Latent, check_channels, samples_of
from .conditions import ConditionedDenoiser, conditions_of, entry_of
from .duck import Clip, Load, Model, Statistics, Vae
from .facts import stride_of
from .previews import ClipShow, Colours, preview_colours

Result = TypeVar("Result")
DTYPES = {"auto": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def make_model(network: PatchDiT, vae: VideoVAE) -> Model:
    return Model(network.to(get_torch_device()), vae)


def load_video(file: VideoModelFile, dtype: str = "auto") -> Model:
    """A MODEL of Wan weights; ValueError for a type that only ComfyUI computes with."""
    if dtype.startswith("fp8"):
        raise ValueError(f"dtype {dtype} needs ComfyUI; without it choose auto, bf16 or fp32.")
    device = get_torch_device()
    wanted = DTYPES[dtype] or file.default_dtype(device)
    report = progress(len(file.weights))
    network = load_video_model(file, wanted, report=report).to(device)
    space = Statistics.of_channels(file.config.out_channels)
    return Model(network, space, file.family, file.noise)


def model_files(kind: str) -> list[str]:
    return get_filename_list(kind)


def model_path(kind: str, name: str) -> Path:
    return Path(get_full_path_or_raise(kind, name))


def vae_dtype() -> torch.dtype:
    return torch.float32 if get_torch_device().type == "cpu" else torch.bfloat16


def vae_layers() -> Any:
    return torch.nn


def make_clip(encoder: TextEncoder, tokenizer: Tokenizer) -> Clip:
    return Clip(encoder, tokenizer, _loader(encoder))


def make_vae(vae: VideoVAE) -> Vae:
    return Vae(vae, _loader(vae))


def _loader(module: torch.nn.Module) -> Load:
    device = get_torch_device()
    module.to(device)
    return lambda memory=0: device


def prepare_latent(model: Model, latent: Latent) -> Tensor:
    """samples_BCTHW of a LATENT in the model's space; an empty latent stays as it is."""
    samples = samples_of(latent)
    check_channels(samples, model.network.config.out_channels)
    samples = samples.float().cpu()
    return model.latents.normalise(samples) if samples.any() else samples


def finish_latent(model: Model, samples_BCTHW: Tensor) -> Tensor:
    """Raw VAE means of samples in the model's space."""
    return model.latents.denormalise(samples_BCTHW)


class AloneDenoiser:
    """Our network with prompts and guidance."""

    def __init__(self, model: Model, positive: list, negative: list, cfg: float):
        self._model, self._cfg = model, cfg
        self._prompts = entry_of(positive, "positive"), entry_of(negative, "negative")

    def run(self, state: DenoiseState, work: Callable[[Denoiser], Result]) -> Result:
        """`work(denoiser)`; latents stay where the state has them, the network where it is."""
        device = get_torch_device()
        prompts = self._prompts[: 1 if self._cfg == 1 else 2]
        said = [conditions_of(entry, self._model, state.x.shape, device) for entry in prompts]
        denoisers = [ConditionedDenoiser(self._model.network, each) for each in said]

        def denoise(x_BCTHW: Tensor, sigma: Tensor) -> Tensor:
            x, sigma = x_BCTHW.to(device), sigma.to(device)
            x0s = [denoiser(x, sigma) for denoiser in denoisers]
            x0 = x0s[0] if len(x0s) == 1 else torch.lerp(x0s[1], x0s[0], self._cfg)
            return x0.to(x_BCTHW)

        with torch.no_grad():
            return work(denoise)


def as_denoiser(model: Model, positive: list, negative: list, cfg: float) -> AloneDenoiser:
    return AloneDenoiser(model, positive, negative, cfg)


def progress(total: int) -> Callable[[int], None]:
    """A bar for the node that runs; `report(done)` also stops it once the user has cancelled."""
    bar = ProgressBar(total)

    def report(done: int) -> None:
        throw_if_interrupted()
        bar.update_absolute(done)

    return report


def step_reporter(
    model: Model, total: int, fps: float = DEFAULT_FPS
) -> Callable[[int, Tensor], None]:
    """As `progress`, with the whole clip as predicted (model space) where a canvas plays it."""
    bar, now = progress(total), session()
    if not now.is_watched():
        return lambda done, x0_BCTHW: bar(done)
    show = partial(now.on_clip, executing_node())
    clip = ClipShow(show, clip_colours(model), total, fps, stride_of(model))

    def report(done: int, x0_BCTHW: Tensor) -> None:
        bar(done)
        clip.show(done, x0_BCTHW)

    return report


def clip_colours(model: Model) -> Colours | None:
    """Fitted to the model's own autoencoder; None where the weights came without one."""
    return _colours(model.latents) if isinstance(model.latents, VideoVAE) else None


_colours = lru_cache(maxsize=1)(preview_colours)  # it encodes 27 pictures


def heed_stop() -> bool:
    """Whether the node that runs was asked to stop; from then on it counts as stopped."""
    node, now = executing_node(), session()
    if node not in now.to_stop:
        return False
    now.stopped.add(node)
    return True


def was_stopped() -> bool:
    """Whether the node that runs has stopped early."""
    return executing_node() in session().stopped


def times_stopped() -> int:
    """Nothing is kept from one run to the next, so nothing has to be made anew."""
    return 0


def weights_folder() -> Path:
    return Path(get_models_directory()) / "patchdit"


def fingerprint(model: Model) -> str:
    return digest_weights(model.network.state_dict().items())


async def replace_nodes(register: Callable[[Any, Any], Awaitable[None]]) -> None:
    """Old node ids: canvas.py tells its frontend of them, run.py that it does not know them."""


def journal_folder() -> Path:
    """In the output folder: the temporary one is gone when a run is started again."""
    return Path(get_output_directory()) / ".patchdit"


def state_folders() -> list[Path]:
    return [Path(get_output_directory()), Path(get_input_directory())]


def new_state_path(prefix: str) -> Path:
    folder, name, counter, *_ = get_save_image_path(prefix, get_output_directory())
    return Path(folder) / f"{name}_{counter:05}_.safetensors"
