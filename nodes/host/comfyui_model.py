"""Our network and its latents as ComfyUI wants a model family to be.

B batch, C channels, T/H/W latent frames/rows/columns, D width, L tokens, S text tokens. Latents
inside a model are normalised per channel ("model space"); LATENT wires carry raw VAE means.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from dataclasses import dataclass, field

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.ops
import comfy.patcher_extension
import comfy.supported_models_base
import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.blocks import KnownCache, Pass, TextKeysValues
from ...models.config import PatchSize, TransformerConfig
from ...models.patches import token_maximum
from ...models.transformer import PatchDiT
from ...models.video_vae import VideoVAE
from .comfyui_attention import AttentionPatches, HostAttention
from .previews import preview_colours

SHIFT = 6.0  # of the noise schedule where core makes it; blockworld's 64x64 clips of 17 frames
LEVELS = "patchdit_levels"  # conditioning: each cell's share of the step's noise level, B1THW
RUN_CACHE = "patchdit_run_cache"  # transformer option: a RunCache


@dataclass
class PromptCache:
    """What stays the same for one set of prompts from step to step."""

    context_BSD: Tensor
    image_BSD: Tensor | None
    text: TextKeysValues
    known: KnownCache = field(default_factory=KnownCache)

    def holds(self, context_BSD: Tensor, image_BSD: Tensor | None) -> bool:
        """Whether it was made from the same features."""
        if self.image_BSD is None or image_BSD is None:
            return self.image_BSD is image_BSD and torch.equal(self.context_BSD, context_BSD)
        return torch.equal(self.context_BSD, context_BSD) and torch.equal(self.image_BSD, image_BSD)


@dataclass
class RunCache:
    """Keys and values of text and known tokens; it must not outlive the weights it was made with.

    Prompts are told apart by the ids that core gives them for a run. A wrapper may still change
    their features between steps, so those are compared; known tokens are by KnownCache itself.
    """

    prompts: dict[tuple, PromptCache] = field(default_factory=dict)

    def of(
        self, network: PatchDiT, ids: tuple, context_BSD: Tensor, image_BSD: Tensor | None = None
    ) -> PromptCache:
        held = self.prompts.get(ids)
        if held is None or not held.holds(context_BSD, image_BSD):
            text = network.text_keys_values(context_BSD, image_BSD)
            held = PromptCache(context_BSD, image_BSD, text)
            self.prompts[ids] = held
        return held


class HostPatchDiT(PatchDiT):
    """PatchDiT as ComfyUI calls it: with its layers, its wrappers and its patches on blocks."""

    def __init__(self, config: TransformerConfig, operations, device=None, dtype=None, **_unused):
        attend = HostAttention()
        super().__init__(config, operations, attend, comfy.ops.cast_to_input, device, dtype)
        self.attend, self.dtype = attend, dtype
        for block in [*self.blocks, *self.vace_blocks]:
            AttentionPatches(block, attend)  # pyright: ignore

    def forward(self, x, timesteps, context=None, control=None, transformer_options=None, **kwargs):
        """The velocity_BCTHW, through whatever wraps DIFFUSION_MODEL (step caches)."""
        options = transformer_options or {}
        executor = wrapped(self._velocity, self, options)
        return executor.execute(x, timesteps, context, control, options, **kwargs)

    def _velocity(self, x, timesteps, context, control=None, transformer_options=None, **kwargs):
        options = dict(transformer_options or {})
        text, known = self.held(options, context)
        self.attend.transformer_options = options
        velocity = super().forward(x, timesteps, text, cache=known)
        self.attend.transformer_options = {}
        return velocity

    def held(
        self,
        options: dict,
        context_BSD: Tensor,
        image_BSD: Tensor | None = None,
    ) -> tuple[TextKeysValues, KnownCache | None]:
        """The text, and the cache of known tokens, that this run holds for these prompts.

        A patch on blocks may do something else at every step: then known tokens are not cached.
        """
        run: RunCache | None = options.get(RUN_CACHE)
        if run is None:
            return self.text_keys_values(context_BSD, image_BSD), None
        held = run.of(self, tuple(options.get("uuids", ())), context_BSD, image_BSD)
        patched = options.get("patches_replace", {}).get("dit") or options.get("patches")
        return held.text, None if patched else held.known

    def embed_patches(self, tokens_BLP: Tensor, convolution=None) -> Tensor:
        """As our network does it, with the weights as core's layers fetch theirs for use.

        Under partial loading a LoRA on them is put on at that moment, and only by that call.
        """
        layer = self.patch_embedding if convolution is None else convolution
        weight, bias, held = comfy.ops.cast_bias_weight(layer, tokens_BLP, offloadable=True)
        x_BLD = F.linear(tokens_BLP, weight.flatten(1), bias)
        comfy.ops.uncast_bias_weight(layer, weight, bias, held)
        return x_BLD

    def run_blocks(self, x_BLD: Tensor, shared: Pass) -> Tensor:
        """All blocks in turn, each through its replacement patch where there is one."""
        options = self.attend.transformer_options
        options |= {"total_blocks": len(self.blocks), "block_type": "double"}
        replaced = options.get("patches_replace", {}).get("dit", {})
        for layer, block in enumerate(self.blocks):
            options["block_index"] = layer
            patch = replaced.get(("double_block", layer))
            if patch is None:
                x_BLD = block(x_BLD, shared, layer)
            else:
                x_BLD = self.run_patched(patch, block, x_BLD, shared, layer)
            x_BLD = self.after_block(x_BLD, shared, layer)
        return x_BLD

    def run_patched(self, patch, block, x_BLD: Tensor, shared: Pass, layer: int) -> Tensor:
        """One block through its replacement.

        `img` and `transformer_options` are core's; `txt`, `vec` and `pe` stand for what ours takes
        in their place and are handed to the block whatever comes back for them.
        """
        options = self.attend.transformer_options

        def original(args: dict) -> dict:
            self.attend.transformer_options = args.get("transformer_options", options)
            out = {"img": block(args["img"], shared, layer)}
            self.attend.transformer_options = options
            return out

        inputs = {"txt": shared.text, "vec": shared.times, "pe": shared.rotary}
        args = {"img": x_BLD, **inputs, "transformer_options": options}
        return patch(args, {"original_block": original})["img"]


def wrapped(call, network: HostPatchDiT, options: dict):
    """`call` inside whatever other packs wrap round DIFFUSION_MODEL."""
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    wrappers = comfy.patcher_extension.get_all_wrappers(kind, options)
    return comfy.patcher_extension.WrapperExecutor.new_class_executor(call, network, wrappers)


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
        return spread(timestep, share, self.config.patch)

    def scale_latent_inpaint(self, sigma, noise, latent_image, **kwargs):
        return (
            latent_image
            if self.config.frame_timesteps
            else super().scale_latent_inpaint(sigma, noise, latent_image, **kwargs)
        )


def spread(timestep_B: Tensor, share_B1THW: Tensor, patch: PatchSize) -> Tensor:
    """Timesteps of cells that have a share of the step's level each.

    One per latent frame, (B,T), where its cells agree; else one per token, (B,L).
    """
    share_BTHW = share_B1THW[:, 0].to(timestep_B)
    cells_BTN = share_BTHW.flatten(2)
    if (cells_BTN == cells_BTN[..., :1]).all():
        return timestep_B[:, None] * cells_BTN[..., 0]
    return timestep_B[:, None] * token_maximum(share_BTHW, patch)
