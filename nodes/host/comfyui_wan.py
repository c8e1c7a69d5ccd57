"""Wan files as MODEL inside ComfyUI: core's own model classes round our network.

What core knows of the family stays core's: detection, latent format, schedule, memory factors,
number formats and what becomes of a CONDITIONING. B batch, C channels, T/H/W latent frames, rows,
columns, S text tokens, D width, L tokens, P values of a patch.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import logging
from typing import Any

import comfy.model_base
import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch
from comfy.ldm.common_dit import pad_to_patch_size
from torch import Tensor

from ...models.checkpoints import check_names
from ...models.config import PatchSize, TransformerConfig
from ...models.families import VideoModelFile, give_weight, read_state
from ...models.patches import patchify, unpatchify
from ...models.quantised import is_extra
from ...models.tensor_files import DTYPES as STORED
from ...models.vace import Control
from .comfyui_model import LEVELS, HostPatchDiT, spread, wrapped

DTYPES = {  # how core's UNETLoader calls them, and the halves that it leaves to the command line
    "auto": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e4m3fn_fast": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}

GGUF = torch.bfloat16  # what its blocks are spelled out as


class HostWan(HostPatchDiT):
    """PatchDiT in the place of core's WanModel: built from and called with the same arguments.

    It has the attributes of WanModel that other code reads.
    """

    ref_conv = None  # for a reference image; such weights are refused

    def __init__(self, device=None, dtype=None, operations=None, **settings):
        config = config_of(settings)
        super().__init__(config, operations, device, dtype)
        for name, module in self.named_children():
            if name.endswith("patch_embedding"):
                module.to(torch.float32)  # as core: few weights, and the first to be multiplied
        if not config.image_width:
            self.img_emb = None
        self.model_type = settings["model_type"]
        self.patch_size, self.text_len = tuple(config.patch), 512
        self.in_dim, self.out_dim = config.in_channels, config.out_channels
        self.dim, self.ffn_dim, self.freq_dim = config.width, config.mlp_width, 256
        self.text_dim, self.num_heads = config.text_width, config.heads
        self.num_layers, self.eps = config.layers, config.eps

    def forward(
        self,
        x,
        timestep,
        context,
        clip_fea=None,
        time_dim_concat=None,
        transformer_options=None,
        **kwargs,
    ):
        """The velocity_BCTHW of what core passes to its WanModel."""
        options = transformer_options or {}
        executor = wrapped(self._velocity, self, options)
        return executor.execute(x, timestep, context, clip_fea, time_dim_concat, options, **kwargs)

    def _velocity(
        self,
        x,
        timestep,
        context,
        clip_fea=None,
        time_dim_concat=None,
        transformer_options=None,
        vace_context=None,
        vace_strength=None,
        **kwargs,
    ):
        T, H, W = x.shape[2:]
        x = pad_to_patch_size(x, self.patch_size)
        if time_dim_concat is not None:
            x = torch.cat([x, pad_to_patch_size(time_dim_concat, self.patch_size)], dim=2)
        tokens_BLP, grid = patchify(x, self.config.patch)
        options = {
            **(transformer_options or {}),
            "grid_sizes": torch.Size((grid.t, grid.h, grid.w)),
        }
        positions_L3 = rope_positions(grid.positions(x.device), options.get("rope_options"))
        image = clip_fea if self.config.image_width else None
        text, _ = self.held(options, timestep, context, image)
        control = self.control_of(vace_context, vace_strength)
        self.attend.transformer_options = options
        velocity_BLP = self.forward_tokens(
            tokens_BLP, positions_L3, timestep, text, control=control
        )
        self.attend.transformer_options = {}
        return unpatchify(velocity_BLP, grid)[:, :, :T, :H, :W]

    def embed_patches(self, tokens_BLP: Tensor, convolution=None) -> Tensor:
        return super().embed_patches(tokens_BLP.float(), convolution).to(tokens_BLP.dtype)

    def control_of(self, context_BnCTHW: Tensor | None, strengths) -> Control | None:
        """The control videos of a VACE conditioning, as patches."""
        if context_BnCTHW is None:
            return None
        videos = [pad_to_patch_size(v, self.patch_size) for v in context_BnCTHW.unbind(1)]
        patches = tuple(patchify(video, self.config.patch)[0] for video in videos)
        return Control(patches, tuple(strengths or [1.0] * len(patches))[: len(patches)])


def config_of(settings: dict[str, Any]) -> TransformerConfig:
    """Our config from the arguments of core's WanModel; ValueError for a kind that it is not."""
    kind = settings["model_type"]
    if kind not in ("t2v", "i2v", "vace") or settings.get("in_dim_ref_conv"):
        extra = " with a reference image" if settings.get("in_dim_ref_conv") else ""
        raise ValueError(f"These are Wan weights of kind {kind}{extra}; use Load Diffusion Model.")
    return TransformerConfig(
        settings["dim"],
        settings["ffn_dim"],
        settings["num_heads"],
        settings["num_layers"],
        in_channels=settings["in_dim"],
        out_channels=settings["out_dim"],
        patch=PatchSize(*settings["patch_size"]),
        text_length=0,  # core's text encoder pads
        frequency_width=settings["freq_dim"],
        image_width=1280 if kind == "i2v" else 0,
        image_positions=settings.get("flf_pos_embed_token_number") or 0,
        vace_blocks=settings.get("vace_layers") or 0,
        vace_channels=settings.get("vace_in_dim") or 0,
        frame_timesteps=settings["out_dim"] == 48,
        eps=settings["eps"],
    )


def rope_positions(positions_L3: Tensor, options: dict[str, float] | None) -> Tensor:
    """Token positions, stretched and moved as core's rope_options say."""
    if not options:
        return positions_L3
    scale = [options.get(f"scale_{axis}", 1.0) for axis in "tyx"]
    shift = [options.get(f"shift_{axis}", 0.0) for axis in "tyx"]
    moved = torch.addcmul(
        torch.tensor(shift, dtype=torch.float64), positions_L3.cpu(), torch.tensor(scale).double()
    )
    return moved.to(positions_L3.device, torch.float32)


class HostWan21(comfy.model_base.WAN21):
    """Wan 2.1, and 2.2 A14B: text to video, or with image channels beside x."""

    def __init__(self, settings, image_to_video=False, device=None):
        build(self, settings, image_to_video, device)


class HostWan21Vace(comfy.model_base.WAN21_Vace):
    """Wan 2.1 with control videos."""

    def __init__(self, settings, image_to_video=False, device=None):
        build(self, settings, image_to_video, device)


class HostWan22(comfy.model_base.WAN22):
    """Wan 2.2 TI2V: a noise level per latent frame, and from our sampler per token."""

    def __init__(self, settings, image_to_video=False, device=None):
        build(self, settings, image_to_video, device)

    def process_timestep(self, timestep, x=None, denoise_mask=None, **kwargs):
        share = kwargs.get(LEVELS)
        if share is not None:
            return spread(timestep, share, self.diffusion_model.config.patch)
        return super().process_timestep(timestep, x, denoise_mask, **kwargs)


def build(model: Any, settings: Any, image_to_video: bool, device: torch.device | None) -> None:
    """What the constructors of core's Wan classes do, with our network in place of theirs."""
    flow = comfy.model_base.ModelType.FLOW
    comfy.model_base.BaseModel.__init__(model, settings, flow, device=device, unet_model=HostWan)
    model.image_to_video = image_to_video
    model.device = None  # the patcher says where it is


KINDS = {  # core's family -> our class, and whether core counts it as image to video
    comfy.supported_models.WAN21_T2V: (HostWan21, False),
    comfy.supported_models.WAN21_I2V: (HostWan21, True),
    comfy.supported_models.WAN21_Vace: (HostWan21Vace, False),
    comfy.supported_models.WAN22_T2V: (HostWan22, True),
}


def load_wan(file: VideoModelFile, dtype: str = "auto", disable_dynamic: bool = False) -> Any:
    """A MODEL of a Wan file, whose weights memory holds once; scaled fp8 ones stay as they are."""
    management, patching = comfy.model_management, comfy.model_patcher
    scaled = file.quantisation.layers or any(map(is_extra, file.tensors))
    model = (scaled_model if scaled else plain_model)(file, dtype)
    model.noise_half = file.noise
    offload = management.unet_offload_device()
    if not management.is_device_cpu(offload):
        model.to(offload)
    kind = patching.ModelPatcher if disable_dynamic else patching.CoreModelPatcher
    patcher = kind(model, management.get_torch_device(), offload)
    patcher.cached_patcher_init = (load_wan, (file, dtype))
    return patcher


def plain_model(file: VideoModelFile, dtype: str) -> Any:
    """The model, its weights read one by one and converted to what core computes with."""
    header = {
        name: torch.empty(tensor.shape, dtype=STORED.get(tensor.kind, GGUF), device="meta")
        for name, tensor in file.tensors.items()
    }
    model = model_of(settings_of(header, dtype, file.label), torch.device("meta"))
    network = model.diffusion_model
    for name, weight in read_state(file, GGUF):
        give_weight(network, name, weight.to(network.get_parameter(name).dtype))
    return model


def scaled_model(file: VideoModelFile, dtype: str) -> Any:
    """The model with 8-bit weights and their scales, in core's own layers for such."""
    if DTYPES[dtype] is not None:
        logging.info("%s stays as it is: dtype %s is not used.", file.label, dtype)
    state, _ = comfy.utils.convert_old_quants(dict(read_state(file)), "", metadata={})
    model = model_of(settings_of(state, dtype, file.label))
    missing, unknown = model.diffusion_model.load_state_dict(state, strict=False)
    check_names(f"{file.label} lacks", missing)
    check_names(f"{file.label} has unknown", unknown)
    return model


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
