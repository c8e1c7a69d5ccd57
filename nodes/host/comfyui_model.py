"""Our network and its latents as ComfyUI wants a model family to be.

B batch, C channels, T/H/W latent frames/rows/columns, D width, L tokens, S text tokens, N heads, H
head size inside attention. Latents inside a model are normalised per channel ("model space");
LATENT wires carry raw VAE means.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.ops
import comfy.patcher_extension
import comfy.supported_models_base
import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

from ...models.attention import sdpa
from ...models.blocks import KnownCache, Pass, TextKeysValues
from ...models.config import TransformerConfig
from ...models.patches import token_maximum
from ...models.transformer import PatchDiT
from ...models.video_vae import VideoVAE

SHIFT = 6.0  # of the noise schedule where core makes it; blockworld's 64x64 clips of 17 frames
LEVELS = "patchdit_levels"  # conditioning: each cell's share of the step's noise level, B1THW
RUN_CACHE = "patchdit_run_cache"  # transformer option: a RunCache

_options: ContextVar[dict[str, Any]] = ContextVar("transformer_options")


def attend(q_BNLH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention by the backend that the user started ComfyUI with; torch's own on a CPU."""
    if mask is not None or q_BNLH.device.type == "cpu":
        return sdpa(q_BNLH, k_BNSH, v_BNSH, mask)
    shape = {"skip_reshape": True, "skip_output_reshape": True}
    options = _options.get({})
    return optimized_attention(
        q_BNLH, k_BNSH, v_BNSH, q_BNLH.shape[1], transformer_options=options, **shape
    )


@dataclass
class PromptCache:
    """What stays the same for one set of prompts from step to step."""

    context_BSD: Tensor
    text: TextKeysValues
    known: KnownCache = field(default_factory=KnownCache)


@dataclass
class RunCache:
    """Keys and values of text and known tokens; it must not outlive the weights it was made with.

    Prompts are told apart by the ids that core gives them for a run. A wrapper may still change
    their features between steps, so those are compared; known tokens are by KnownCache itself.
    """

    prompts: dict[tuple, PromptCache] = field(default_factory=dict)

    def of(self, network: PatchDiT, ids: tuple, context_BSD: Tensor) -> PromptCache:
        held = self.prompts.get(ids)
        if held is None or not torch.equal(held.context_BSD, context_BSD):
            held = PromptCache(context_BSD, network.text_keys_values(context_BSD))
            self.prompts[ids] = held
        return held


class HostPatchDiT(PatchDiT):
    """PatchDiT as ComfyUI calls it: with its layers, its wrappers and its patches on blocks."""

    def __init__(self, config: TransformerConfig, operations, device=None, dtype=None, **_unused):
        super().__init__(config, operations, attend, comfy.ops.cast_to_input, device, dtype)
        self.dtype = dtype

    def forward(self, x, timesteps, context=None, control=None, transformer_options=None, **kwargs):
        """The velocity_BCTHW, through whatever wraps DIFFUSION_MODEL (step caches)."""
        options = transformer_options or {}
        kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        wrappers = comfy.patcher_extension.get_all_wrappers(kind, options)
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(
            self._velocity, self, wrappers
        )
        return executor.execute(x, timesteps, context, control, options, **kwargs)

    def _velocity(self, x, timesteps, context, control=None, transformer_options=None, **kwargs):
        options = transformer_options or {}
        token = _options.set(options)
        try:
            text, known = self._held(options, timesteps, context)
            return super().forward(x, timesteps, text, cache=known)
        finally:
            _options.reset(token)

    def _held(self, options: dict, timesteps: Tensor, context: Tensor):
        """The text, and the cache of known tokens, that this run holds for these prompts.

        A patch on a block may do something else at every step: then known tokens are not cached.
        """
        run: RunCache | None = options.get(RUN_CACHE)
        if run is None:
            return context, None
        held = run.of(self, tuple(options.get("uuids", ())), context)
        known = timesteps == 0
        caching = self.config.known_attends_known and bool((known == known[:1]).all())
        patched = bool(options.get("patches_replace", {}).get("dit"))
        return held.text, held.known if caching and not patched else None

    def run_blocks(self, x_BLD: Tensor, shared: Pass) -> Tensor:
        """All blocks in turn, each through its replacement patch where there is one."""
        options = _options.get({})
        replaced = options.get("patches_replace", {}).get("dit", {})
        for layer, block in enumerate(self.blocks):
            patch = replaced.get(("double_block", layer))
            if patch is None:
                x_BLD = block(x_BLD, shared, layer)
                continue

            def original(args, block=block, layer=layer):
                return {"img": block(args["img"], shared, layer)}

            args = {"img": x_BLD, "transformer_options": options}
            x_BLD = patch(args, {"original_block": original})["img"]
        return x_BLD


class PatchDiTFormat(comfy.latent_formats.LatentFormat):
    """Per-channel normalising of our VAE's latents, and their colours for previews."""

    latent_dimensions = 3
    temporal_downscale_ratio = 4

    def __init__(self, vae: VideoVAE):
        self.latent_channels = vae.config.latent_channels
        self.spacial_downscale_ratio = vae.spatial_stride
        self.process_in = vae.normalise
        self.process_out = vae.denormalise
        self.latent_rgb_factors, self.latent_rgb_factors_bias = preview_colours(vae)


class PatchDiTSettings(comfy.supported_models_base.BASE):
    """What core's BaseModel asks of a model family."""

    unet_extra_config = {}
    sampling_settings = {"shift": SHIFT, "multiplier": 1000}

    def __init__(self, config: TransformerConfig, vae: VideoVAE):
        super().__init__({"config": config, "in_channels": config.in_channels})
        self.set_inference_dtype(torch.float32, None)
        self.latent_format = PatchDiTFormat(vae)
        self.memory_usage_factor = config.width / 2000


class PatchDiTModel(comfy.model_base.BaseModel):
    """Our network as a flow model of core's; known latents are clean and at timestep 0."""

    def __init__(self, settings: PatchDiTSettings, device=None):
        flow = comfy.model_base.ModelType.FLOW
        super().__init__(settings, flow, device=device, unet_model=HostPatchDiT)
        self.config: TransformerConfig = settings.unet_config["config"]

    def extra_conds(self, **kwargs) -> dict:
        conds = super().extra_conds(**kwargs)
        if kwargs.get("cross_attn") is not None:
            conds["c_crossattn"] = comfy.conds.CONDRegular(kwargs["cross_attn"])
        if kwargs.get("denoise_mask") is not None and self.config.frame_timesteps:
            conds["denoise_mask"] = comfy.conds.CONDNoiseShape(kwargs["denoise_mask"][:, :1])
        return conds

    def process_timestep(self, timestep, x=None, denoise_mask=None, **kwargs):
        """(B), or where cells differ one per latent frame, (B,T), or per token, (B,L).

        Our sampler says each cell's share of the step's level; core's say what a mask keeps.
        """
        share = kwargs.get(LEVELS)
        if share is None:
            if denoise_mask is None:
                return timestep
            share = denoise_mask >= 0.5
        share_BTHW = share[:, 0].to(timestep)
        cells_BTN = share_BTHW.flatten(2)
        if (cells_BTN == cells_BTN[..., :1]).all():
            return timestep[:, None] * cells_BTN[..., 0]
        return timestep[:, None] * token_maximum(share_BTHW, self.config.patch)

    def scale_latent_inpaint(self, sigma, noise, latent_image, **kwargs):
        return (
            latent_image
            if self.config.frame_timesteps
            else super().scale_latent_inpaint(sigma, noise, latent_image, **kwargs)
        )


@torch.no_grad()
def preview_colours(vae: VideoVAE) -> tuple[list[list[float]], list[float]]:
    """Factors and bias that turn a normalised latent cell into its colour in -1..1.

    A ridge fit over flat pictures in 27 colours: good enough to see where a run is going.
    """
    side = 2 * vae.spatial_stride
    levels = torch.tensor([-0.8, 0.0, 0.8])
    colours_NC = torch.cartesian_prod(levels, levels, levels)
    video_BCFHW = colours_NC[:, :, None, None, None].expand(-1, -1, 1, side, side)
    cells_NC = vae.normalise(vae.encode(video_BCFHW)).mean((2, 3, 4))
    known_NC = torch.cat([cells_NC, torch.ones(len(cells_NC), 1)], dim=1)
    square_CC = known_NC.T @ known_NC + 0.01 * torch.eye(known_NC.shape[1])
    factors = torch.linalg.solve(square_CC, known_NC.T @ colours_NC).tolist()
    return factors[:-1], factors[-1]
