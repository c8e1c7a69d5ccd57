"""Wan inside ComfyUI: core's own model classes round our network; comfyui_wan_load.py fills them.

What core knows of the family stays core's: latent format, schedule, memory factors and what becomes
of a CONDITIONING. B batch, C channels, T/H/W latent frames, rows, columns, S text tokens, D width,
L tokens, P values of a patch.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from typing import Any

import comfy.model_base
import torch
from comfy.ldm.common_dit import pad_to_patch_size
from torch import Tensor

from ...models.config import PatchSize, TransformerConfig
from ...models.cost import TEXT_TOKENS, prompt_values
from ...models.patches import patchify, unpatchify
from ...models.vace import Control
from .comfyui_model import LEVELS, HostPatchDiT, spread, wrapped

HELD = 4  # prompts of a run: positive and negative, for each of two guides (FlowEdit, two scenes)


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
        self.patch_size, self.text_len = tuple(config.patch), TEXT_TOKENS
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
        text, _ = self.held(options, context, image)
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


class WithOurNetwork(comfy.model_base.BaseModel):
    """One of core's Wan classes, with our network in place of core's."""

    def __init__(self, settings, image_to_video=False, device=None):
        flow = comfy.model_base.ModelType.FLOW
        comfy.model_base.BaseModel.__init__(self, settings, flow, device=device, unet_model=HostWan)
        self.image_to_video = image_to_video
        self.device = None  # the patcher says where it is

    def memory_required(self, input_shape, cond_shapes=None):
        """Core's estimate, in bytes, and the keys and values of prompts for each of the batch.

        Our sampler holds those of a run, of HELD prompts at most; core's makes them at every step.
        """
        network, dtype = self.diffusion_model, self.get_dtype_inference()
        work = super().memory_required(input_shape, cond_shapes or {})
        return work + HELD * input_shape[0] * prompt_values(network.config) * dtype.itemsize


class HostWan21(WithOurNetwork, comfy.model_base.WAN21):
    """Wan 2.1, and 2.2 A14B: text to video, or with image channels beside x."""


class HostWan21Vace(WithOurNetwork, comfy.model_base.WAN21_Vace):
    """Wan 2.1 with control videos."""


class HostWan22(WithOurNetwork, comfy.model_base.WAN22):
    """Wan 2.2 TI2V: a noise level per latent frame, and from our sampler per token."""

    def process_timestep(self, timestep, x=None, denoise_mask=None, **kwargs):
        share = kwargs.get(LEVELS)
        if share is not None:
            return spread(timestep, share, self.diffusion_model.config.patch)
        return super().process_timestep(timestep, x, denoise_mask, **kwargs)
