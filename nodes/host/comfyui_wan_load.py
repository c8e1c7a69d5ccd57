"""Wan files as MODEL inside ComfyUI: which of core's families, in which number formats, loaded.

Detection and the choice of formats are core's. While loading no more than one tensor is in memory
besides the weights.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch
from torch import Tensor

from ...models.checkpoints import check_names
from ...models.families import (
    VideoModelFile,
    check_weights,
    counted,
    give_weight,
    read_state,
    read_weights,
)
from ...models.quantised import FLOATS8, scale_name
from ...models.tensor_files import DTYPES as STORED
from .canvas_comfyui import showing_clips
from .comfyui_wan import HostWan21, HostWan21Vace, HostWan22

DTYPES = {  # how core's UNETLoader calls them, and the halves that it leaves to the command line
    "auto": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e4m3fn_fast": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}

SPELLED_OUT = torch.bfloat16  # blocks of GGUF, and 8-bit floats whose scales core would not know

KINDS = {  # core's family -> our class, and whether core counts it as image to video
    comfy.supported_models.WAN21_T2V: (HostWan21, False),
    comfy.supported_models.WAN21_I2V: (HostWan21, True),
    comfy.supported_models.WAN21_Vace: (HostWan21Vace, False),
    comfy.supported_models.WAN22_T2V: (HostWan22, True),
}

Report = Callable[[int], None]  # how many of the file's tensors are read; may raise to stop


def load_wan(
    file: VideoModelFile,
    dtype: str = "auto",
    report: Report | None = None,
    disable_dynamic: bool = False,
) -> Any:
    """A MODEL of a Wan file, whose weights memory holds once; `dtype` is one of DTYPES.

    Scaled 8-bit floats stay as they are where the file says so in a way that core knows.
    """
    management, patching = comfy.model_management, comfy.model_patcher
    model = (scaled_model if file.scheme_named else plain_model)(file, dtype, report)
    model.noise_half = file.noise
    offload = management.unet_offload_device()
    if not management.is_device_cpu(offload):
        model.to(offload)
    kind = patching.ModelPatcher if disable_dynamic else patching.CoreModelPatcher
    patcher = showing_clips(kind(model, management.get_torch_device(), offload))
    patcher.cached_patcher_init = (load_wan, (file, dtype))
    return patcher


def plain_model(file: VideoModelFile, dtype: str, report: Report | None = None) -> Any:
    """The model, its weights read one by one and converted to what core computes with."""
    model = model_of(settings_of(header_of(file), dtype, file.label), torch.device("meta"))
    network = model.diffusion_model
    dtypes = dtypes_of(network, file)
    check_weights(file, dtypes)
    for name, weight in counted(read_weights(file, dtypes, SPELLED_OUT), report):
        give_weight(network, name, weight)
    comfy.model_management.archive_model_dtypes(network)  # else dynamic loading narrows them all
    return model


def header_of(file: VideoModelFile) -> dict[str, Tensor]:
    """The weights that a file stands for, without their values."""
    header = {}
    for name, stored in file.weights.items():
        scaled = scale_name(name, file.tensors)
        dtype = SPELLED_OUT if scaled else STORED.get(stored.kind, SPELLED_OUT)
        header[name] = torch.empty(stored.shape, dtype=dtype, device="meta")
    return header


def dtypes_of(network: torch.nn.Module, file: VideoModelFile) -> dict[str, torch.dtype]:
    """The type that each weight is to have: the network's, but for those that 8 bits would spoil.

    Only the matrices of linear layers are narrowed to 8 bits, and of a file that is narrowed
    already only those that are so there: norms, biases and modulation are few and decide much.
    """
    found, narrowed = {}, file.kind in FLOATS8
    for name, stored in file.weights.items():
        path, _, leaf = name.rpartition(".")
        layer = network.get_submodule(path)
        weight = getattr(layer, leaf)  # None in a layer that core leaves empty until it is loaded
        found[name] = weight.dtype if weight is not None else layer.weight_comfy_model_dtype
        matrix = isinstance(layer, torch.nn.Linear) and leaf == "weight"
        if found[name].itemsize == 1 and (not matrix or narrowed > (stored.kind in FLOATS8)):
            found[name] = STORED.get(stored.kind, SPELLED_OUT)
    return found


def scaled_model(file: VideoModelFile, dtype: str, report: Report | None = None) -> Any:
    """The model with 8-bit weights and their scales, in core's own layers for such."""
    if DTYPES[dtype] is not None:
        logging.info("%s stays as it is: dtype %s is not used.", file.label, dtype)
    state = dict(counted(read_state(file), report))
    state, _ = comfy.utils.convert_old_quants(state, "", metadata={})
    model = model_of(settings_of(state, "auto", file.label))
    missing, unknown = hand_over(state, model.diffusion_model)
    check_names(f"{file.label} lacks", missing)
    check_names(f"{file.label} has unknown", unknown)
    return model


def hand_over(state: dict[str, Tensor], network: torch.nn.Module) -> tuple[list[str], list[str]]:
    """Move tensors into the network, and say which it lacks and which it does not know.

    Part by part, and out of `state`: what core's layers convert they copy, and as stored it need
    not be there until all is loaded.
    """
    missing, unknown = [name for name, _ in network.named_parameters(recurse=False)], []
    for path, part in parts_of(network):
        names = [name for name in state if name.startswith(f"{path}.")]
        tensors = {name.removeprefix(f"{path}."): state.pop(name) for name in names}
        try:
            lacking, odd = part.load_state_dict(tensors, strict=False)
        except RuntimeError as error:
            raise ValueError(
                f"Weights of {path} have other shapes than its layers: {error}"
            ) from error
        missing += [f"{path}.{name}" for name in lacking]
        unknown += [f"{path}.{name}" for name in odd]
    return missing, unknown + list(state)


def parts_of(network: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """The network's blocks and what lies beside them, which together are all of it."""
    for name, child in network.named_children():
        if isinstance(child, torch.nn.ModuleList):
            yield from ((f"{name}.{index}", block) for index, block in enumerate(child))
        else:
            yield name, child


def model_of(settings: Any, device: torch.device | None = None) -> Any:
    kind, image_to_video = KINDS[type(settings)]
    return kind(settings, image_to_video, device)


def settings_of(state: dict[str, Tensor], dtype: str, label: str) -> Any:
    """Core's settings of the family that these weights are, with its choice of number formats."""
    management = comfy.model_management
    settings = comfy.model_detection.model_config_from_unet(state, "")
    if type(settings) not in KINDS:
        raise ValueError(
            f"ComfyUI takes {label} for {type(settings).__name__}; use its Load Diffusion Model."
        )
    quantised = settings.quant_config is not None
    supported = list(settings.supported_inference_dtypes)
    weights = DTYPES[dtype] or management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state),
        supported_dtypes=supported,
        weight_dtype=None if quantised else comfy.utils.weight_dtype(state),
    )
    compute = management.unet_manual_cast(
        None if quantised else weights, management.get_torch_device(), supported
    )
    settings.set_inference_dtype(weights, compute)
    settings.optimizations = {**settings.optimizations, "fp8": dtype.endswith("_fast")}
    return settings
