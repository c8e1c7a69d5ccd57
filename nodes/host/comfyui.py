"""Inside ComfyUI: values for the wires, latents into and out of model space, progress.

B batch, C channels, T/H/W latent frames/rows/columns. Latents inside a model are normalised per
channel ("model space"); LATENT wires carry raw VAE means.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.ops
import comfy.sample
import comfy.utils
import folder_paths
import latent_preview
import torch
from comfy_api.latest import ComfyAPI, io
from torch import Tensor

from ...models.digests import digest, digest_weights
from ...models.families import VideoModelFile
from ...models.text import TextEncoder, Tokenizer
from ...models.transformer import PatchDiT
from ...models.video_vae import VideoVAE
from ..latent_dicts import DEFAULT_FPS, Latent, check_channels, samples_of
from .canvas_comfyui import (
    clip_show,
    heed_stop,
    other_wrappers,
    showing_clips,
    times_stopped,
    was_stopped,
)
from .comfyui_model import PatchDiTModel, PatchDiTSettings
from .comfyui_sampling import as_denoiser
from .comfyui_wan_load import load_wan
from .duck import Clip, Load, Vae

__all__ = [
    "as_denoiser",
    "fingerprint",
    "finish_latent",
    "heed_stop",
    "journal_folder",
    "load_video",
    "make_clip",
    "make_model",
    "make_vae",
    "model_files",
    "model_path",
    "new_state_path",
    "prepare_latent",
    "progress",
    "replace_nodes",
    "state_folders",
    "step_reporter",
    "times_stopped",
    "vae_dtype",
    "vae_layers",
    "was_stopped",
    "weights_folder",
]


def make_model(network: PatchDiT, vae: VideoVAE) -> Any:
    """A MODEL that core's samplers, LoRA loaders and patches take."""
    device = comfy.model_management.unet_offload_device()
    model = PatchDiTModel(PatchDiTSettings(network.config, vae), device)
    model.diffusion_model.load_state_dict(network.state_dict(), strict=True)
    loads_on = comfy.model_management.get_torch_device()
    return showing_clips(comfy.model_patcher.CoreModelPatcher(model, loads_on, device))


def make_clip(encoder: TextEncoder, tokenizer: Tokenizer) -> Clip:
    management = comfy.model_management
    devices = management.text_encoder_device(), management.text_encoder_offload_device()
    return Clip(encoder, tokenizer, _loader(encoder, *devices))


def make_vae(vae: VideoVAE) -> Vae:
    management = comfy.model_management
    return Vae(vae, _loader(vae, management.vae_device(), management.vae_offload_device()))


def _loader(module: torch.nn.Module, device: torch.device, offload: torch.device) -> Load:
    """Loads a module the way core does its own, so that it makes room and is moved out again."""
    patcher = comfy.model_patcher.ModelPatcher(module, load_device=device, offload_device=offload)

    def load(memory: int = 0) -> torch.device:
        comfy.model_management.load_models_gpu([patcher], memory, force_full_load=True)
        return device

    return load


def load_video(file: VideoModelFile, dtype: str = "auto") -> Any:
    """A MODEL of a Wan file; `dtype` is one of comfyui_wan_load.DTYPES."""
    return load_wan(file, dtype, progress(len(file.tensors)))


def model_files(kind: str) -> list[str]:
    """Files in the folders of a kind ("diffusion_models", "vae"); GGUF too, unlike core's list."""
    names = set(folder_paths.get_filename_list(kind))
    for root in map(Path, folder_paths.get_folder_paths(kind)):
        names |= {str(path.relative_to(root)) for path in root.rglob("*.gguf")}
    return sorted(names)


def model_path(kind: str, name: str) -> Path:
    """Where one of `model_files` is; ValueError where it no longer is."""
    path = folder_paths.get_full_path(kind, name)
    if path is None:
        raise ValueError(f"There is no {name!r} among the {kind}; choose another file.")
    return Path(path)


def vae_dtype() -> torch.dtype:
    """What core would compute a Wan VAE in."""
    management = comfy.model_management
    allowed = [torch.bfloat16, torch.float16, torch.float32]
    return management.vae_dtype(management.vae_device(), allowed)


def vae_layers() -> Any:
    """Core's layers: they work round faults of the device's libraries and stop on interrupt."""
    return comfy.ops.disable_weight_init


def prepare_latent(model: Any, latent: Latent) -> Tensor:
    """samples_BCTHW of a LATENT in the model's space; an empty one takes the model's channels."""
    if not isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        name = type(model.model).__name__
        raise ValueError(f"MODEL is {name}, which is not a flow model; need one such as Wan.")
    samples = comfy.sample.fix_empty_latent_channels(
        model, samples_of(latent), latent.get("downscale_ratio_spacial")
    )
    check_channels(samples, model.get_model_object("latent_format").latent_channels)
    samples = samples.float().cpu()
    return model.model.process_latent_in(samples) if samples.any() else samples


def finish_latent(model: Any, samples_BCTHW: Tensor) -> Tensor:
    """Raw VAE means of samples in the model's space."""
    return model.model.process_latent_out(samples_BCTHW)


def progress(total: int) -> Callable[[int], None]:
    """A bar on the node that runs; `report(done)` also stops it once the user has cancelled."""
    bar = comfy.utils.ProgressBar(total)

    def report(done: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return report


def step_reporter(
    model: Any, total: int, fps: float = DEFAULT_FPS
) -> Callable[[int, Tensor], None]:
    """As `progress`, with the predicted clean latent (model space) shown at each step.

    Where our script plays it that is the whole clip, elsewhere core's preview of its first frame.
    """
    show = clip_show(model, total, fps)
    if show is None:
        return core_reporter(model, total)
    bar = progress(total)

    def report(done: int, x0_BCTHW: Tensor) -> None:
        bar(done)
        show(done, x0_BCTHW)

    return report


def core_reporter(model: Any, total: int) -> Callable[[int, Tensor], None]:
    show = latent_preview.prepare_callback(model, total)

    def report(done: int, x0_BCTHW: Tensor) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        show(done - 1, x0_BCTHW, x0_BCTHW, total)

    return report


def weights_folder() -> Path:
    return Path(folder_paths.models_dir) / "patchdit"


PATCHES = (
    "patches",
    "object_patches",
    "weight_wrapper_patches",
    "hook_patches",
    "injections",
    "model_options",
)


def fingerprint(model: Any) -> str:
    """A sha256 of the weights as they were loaded and of all that is patched onto them.

    Weights that a LoRA is merged into count as they were before: how much of a model is loaded and
    patched at a time depends on memory. `patches_uuid` is another in every process, so not that.
    """
    weights = model.model_state_dict("diffusion_model.")
    weights |= {name: kept.weight for name, kept in model.backup.items() if name in weights}
    weights |= {name: kept[0] for name, kept in model.hook_backup.items() if name in weights}
    patched = {name: getattr(model, name, None) for name in PATCHES}
    patched["wrappers"] = other_wrappers(model)
    schedule = model.get_model_object("model_sampling")
    kind = type(model.model).__qualname__
    return digest((kind, digest_weights(weights.items()), patched, schedule), sample=True)


async def replace_nodes(register: Callable[[Any, Any], Awaitable[None]]) -> None:
    """Let `register(api, entry)` tell ComfyUI which node ids stand for which old ones."""
    await register(ComfyAPI(), io.NodeReplace)


def journal_folder() -> Path:
    """Among ComfyUI's own files of the user's: temp/ is wiped at every start."""
    return Path(folder_paths.get_system_user_directory("patchdit")) / "journal"


def state_folders() -> list[Path]:
    return [Path(folder_paths.get_output_directory()), Path(folder_paths.get_input_directory())]


def new_state_path(prefix: str) -> Path:
    output = folder_paths.get_output_directory()
    folder, name, counter, *_ = folder_paths.get_save_image_path(prefix, output)
    return Path(folder) / f"{name}_{counter:05}_.safetensors"
