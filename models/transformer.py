"""PatchDiT: a spacetime-patch diffusion transformer with Wan's blocks and state-dict names.

Shapes: B batch, C channels, T H W latent frames, rows, columns, L tokens, P values of a patch,
S text tokens, D width, G runs of tokens that share a timestep, U distinct timesteps.

Tokens at timestep exactly 0 are *known*. Where the config says `known_attends_known` they see only
each other, so nothing about them depends on the noise: they are computed apart, once, and cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, KeysValues, sdpa
from .blocks import (
    Block,
    Cast,
    Head,
    ImageEmbedding,
    KnownCache,
    Pass,
    TextKeysValues,
    TimeTable,
    TokenSet,
    known_sees_known,
    sinusoid,
    timestep_runs,
)
from .config import TransformerConfig
from .known_tokens import run_known_apart
from .patches import patchify, unpatchify
from .rotary import rotary_table
from .vace import Control, VACEBlock, hints, vace_layers


def use_as_is(parameter: Tensor, like: Tensor) -> Tensor:
    return parameter


class PatchDiT(nn.Module):
    """Predicts the velocity, noise - x0, of a noisy latent video at timestep 1000 sigma.

    `operations` supplies Linear, LayerNorm, RMSNorm and Conv3d; `attention(q_BNLH, k, v, mask)`
    attends; `cast(parameter, like)` fetches the parameters that blocks hold directly: so a host
    brings its own layers, backend and partial loading. Peebles & Xie (arXiv:2212.09748); Wan
    (arXiv:2503.20314).

    With `known_attends_known`, tokens at timestep 0 see one another and nothing else, so that they
    are the same at every step of a run. A sample with one timestep for all of it sees all of
    itself, at 0 too.
    """

    def __init__(
        self,
        config: TransformerConfig,
        operations: Any = nn,
        attention: Attention = sdpa,
        cast: Cast = use_as_is,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.config, self.cast = config, cast
        where = {"device": device, "dtype": dtype}
        width, linear = config.width, operations.Linear
        self.patch_embedding = operations.Conv3d(
            config.in_channels, width, tuple(config.patch), tuple(config.patch), **where
        )
        if config.position_features:
            self.position_embedding = nn.Sequential(
                linear(3 * config.position_features, width, **where),
                nn.GELU(approximate="tanh"),
                linear(width, width, **where),
            )
        self.text_embedding = nn.Sequential(
            linear(config.text_width, width, **where),
            nn.GELU(approximate="tanh"),
            linear(width, width, **where),
        )
        self.time_embedding = nn.Sequential(
            linear(config.frequency_width, width, **where), nn.SiLU(), linear(width, width, **where)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), linear(width, 6 * width, **where))
        if config.image_width:
            self.img_emb = ImageEmbedding(config, operations, cast, **where)
        self.blocks = nn.ModuleList(
            Block(config, operations, attention, cast, **where) for _ in range(config.layers)
        )
        self.vace_layers = vace_layers(config)
        if config.vace_blocks:
            patch, channels = tuple(config.patch), config.vace_channels
            self.vace_patch_embedding = operations.Conv3d(channels, width, patch, patch, **where)
        self.vace_blocks = nn.ModuleList(
            VACEBlock(config, operations, attention, cast, first=not layer, **where)
            for layer in self.vace_layers
        )
        self.head = Head(config, operations, cast, **where)

    def init_weights(self) -> None:
        """Start weights for training: Xavier, zero biases; head, text and control give zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.zeros_(module.bias)  # pyright: ignore
        nn.init.zeros_(self.head.head.weight)
        if self.config.position_features:
            nn.init.normal_(self.position_embedding[0].weight, std=0.3)  # pyright: ignore
            nn.init.zeros_(self.position_embedding[2].weight)  # pyright: ignore
        for block in [*self.blocks, *self.vace_blocks]:
            nn.init.zeros_(block.cross_attn.o.weight)  # pyright: ignore
        for block in self.vace_blocks:
            nn.init.zeros_(block.after_proj.weight)  # pyright: ignore

    def forward(
        self,
        x_BCTHW: Tensor,
        timestep: Tensor,
        context: Tensor | TextKeysValues,
        image_features: Tensor | None = None,
        cache: KnownCache | None = None,
        control: Control | None = None,
    ) -> Tensor:
        """The velocity (B,C,T,H,W) of latent videos.

        `timestep` is 1000 sigma: (B), (B,T) one per latent frame, or (B,L) one per token.
        `context` is text features (B,S,text_width) or what `text_keys_values` made of them;
        `image_features` (B,S,image_width) belong to a text tensor. `control` is what VACE weights
        read beside x; without one they are the text-to-video model that they were made from.
        """
        tokens_BLP, grid = patchify(x_BCTHW, self.config.patch)
        if timestep.ndim == 2 and timestep.shape[1] == x_BCTHW.shape[2] != grid.t:
            timestep = timestep.unflatten(1, (grid.t, -1)).amax(-1)  # as noisy as the noisiest
        if control is not None:
            control = control.patchified(x_BCTHW, self.config.patch)
        positions_L3 = grid.positions(x_BCTHW.device)
        velocity_BLP = self.forward_tokens(
            tokens_BLP, positions_L3, timestep, context, None, image_features, cache, control
        )
        return unpatchify(velocity_BLP, grid)

    def forward_tokens(
        self,
        tokens_BLP: Tensor,
        positions: Tensor,
        timestep: Tensor,
        contexts: Tensor | TextKeysValues,
        lengths: Sequence[int] | None = None,
        image_features: Tensor | None = None,
        cache: KnownCache | None = None,
        control: Control | None = None,
    ) -> Tensor:
        """The velocity (B,L,P) of any set of patches at `positions`, (B,L,3) or (L,3).

        `timestep` is (B) or (B,G): one for each of G equally long runs of tokens, G = L at the
        finest. With `lengths`, B is 1 and clips of so many tokens are packed along L; each sees
        itself only and its own row of `contexts`, and `timestep` is (clips) or (1,L). A `control`
        is patches too, one for each token. A `cache` is used where it can be: in a model with
        known_attends_known, where all samples know the same tokens.
        """
        self.check_tokens(tokens_BLP, positions, lengths)
        if control is not None:
            control.check(tokens_BLP, self.config)
        timestep_BG = timestep_runs(timestep, tokens_BLP, lengths)
        text = contexts
        if not isinstance(text, TextKeysValues):
            text = self.text_keys_values(text, image_features)
        clips = len(lengths) if lengths is not None else tokens_BLP.shape[0]
        if text.rows != clips:
            raise ValueError(f"Got {text.rows} prompts for {clips} clips; need one for each.")
        whole = TokenSet(
            tokens_BLP, positions, timestep_BG, tuple(lengths or tokens_BLP.shape[1:2])
        )
        if not self.config.known_attends_known or timestep_BG.shape[1] == 1:
            return self.run(whole, text, control=control)
        known_BG = timestep_BG == 0
        if bool((known_BG == known_BG[:1]).all()):
            source = (contexts, image_features)
            return run_known_apart(self.run, whole, text, known_BG[0], cache, source)
        return self.run(whole, text, mask=known_sees_known(known_BG, tokens_BLP.shape[1]))

    def check_tokens(
        self, tokens_BLP: Tensor, positions: Tensor, lengths: Sequence[int] | None
    ) -> None:
        B, L, P = tokens_BLP.shape
        values = self.config.in_channels * prod(self.config.patch)
        if values != P:
            raise ValueError(
                f"Got patches of {P} values; this model needs {values} "
                f"({self.config.in_channels} channels in patches of {tuple(self.config.patch)})."
            )
        if positions.shape not in ((L, 3), (B, L, 3)):
            raise ValueError(f"Got positions {tuple(positions.shape)} for {B}x{L} tokens.")
        if lengths is not None and (B != 1 or sum(lengths) != L or min(lengths) < 1):
            raise ValueError(
                f"Clips of {list(lengths)} tokens need one row of {sum(lengths)} tokens; got "
                f"{B}x{L}."
            )

    def text_keys_values(
        self, context_BSD: Tensor, image_features: Tensor | None = None
    ) -> TextKeysValues:
        """What every layer sees of the prompts; reuse it for every step of a run.

        Text is padded with zeros to `config.text_length` and not masked, as in training.
        """
        if context_BSD.shape[-1] != self.config.text_width:
            raise ValueError(
                f"Got text features {context_BSD.shape[-1]} wide; this model needs "
                f"{self.config.text_width}."
            )
        if image_features is not None and not self.config.image_width:
            raise ValueError("This model has no image branch; got image features for it.")
        missing = self.config.text_length - context_BSD.shape[1]
        padded_BSD = F.pad(context_BSD, (0, 0, 0, missing)) if missing > 0 else context_BSD
        text_BSD = self.text_embedding(padded_BSD).to(context_BSD.dtype)
        image_BSD = None
        if image_features is not None:
            image_BSD = self.img_emb(image_features).to(context_BSD.dtype)
        return TextKeysValues(
            tuple(
                block.cross_attn.keys_values(text_BSD, image_BSD)  # pyright: ignore
                for block in [*self.blocks, *self.vace_blocks]
            )
        )

    def run(
        self,
        tokens: TokenSet,
        text: TextKeysValues,
        mask: Tensor | None = None,
        known: KnownCache | None = None,
        keep: list[KeysValues] | None = None,
        control: Control | None = None,
    ) -> Tensor:
        """One pass over a set of tokens: their velocity (B,L,P)."""
        x_BLD = self.embed_patches(tokens.values_BLP)
        if self.config.position_features:
            x_BLD = x_BLD + self.embed_positions(tokens.positions, x_BLD)
        block_times, head_times = self.time_tables(tokens, x_BLD.dtype)
        rotary = rotary_table(tokens.positions, self.config.head_width)
        shared = Pass(block_times, rotary, text, tokens.lengths, mask, known, keep)
        if control is not None:
            streams = [self.embed_patches(v, self.vace_patch_embedding) for v in control.values]
            added = hints(list(self.vace_blocks), streams, control, x_BLD, shared)
            shared = replace(shared, hints=added)
        return self.head(self.run_blocks(x_BLD, shared), head_times)

    def run_blocks(self, x_BLD: Tensor, shared: Pass) -> Tensor:
        """All blocks in turn, (B,L,D); a host with hooks around blocks overrides this."""
        for layer, block in enumerate(self.blocks):
            x_BLD = self.after_block(block(x_BLD, shared, layer), shared, layer)
        return x_BLD

    def after_block(self, x_BLD: Tensor, shared: Pass, layer: int) -> Tensor:
        """(B,L,D) with what a control adds there; to be called once after each block, in turn."""
        if shared.hints is None or layer not in self.vace_layers:
            return x_BLD
        return x_BLD + next(shared.hints)

    def embed_patches(self, tokens_BLP: Tensor, convolution: Any = None) -> Tensor:
        """(B,L,D): the patch convolution as a linear map, so that any set of patches will do."""
        convolution = self.patch_embedding if convolution is None else convolution
        weight, bias = convolution.weight, convolution.bias
        x_BLD = F.linear(
            tokens_BLP, self.cast(weight, tokens_BLP).flatten(1), self.cast(bias, tokens_BLP)
        )
        return x_BLD.to(tokens_BLP.dtype)  # under autocast too: the residual stream is not narrowed

    def embed_positions(self, positions: Tensor, like_BLD: Tensor) -> Tensor:
        """(B,L,D) or (L,D): where a token is.

        Rotary angles tell tokens apart from each other only: without this, tokens of pure noise
        do not know whether they are the first frame or the last, left or right. Time and place go
        through one hidden layer, because a motion is a product of both.
        """
        features = sinusoid(positions.flatten(), self.config.position_features)
        features = features.to(like_BLD.dtype).view(*positions.shape[:-1], -1)
        return self.position_embedding(features).to(like_BLD.dtype)

    def time_tables(self, tokens: TokenSet, dtype: torch.dtype) -> tuple[TimeTable, TimeTable]:
        """Modulation of the blocks and of the head, computed once for each distinct timestep."""
        timestep_U, index_BG = torch.unique(tokens.timestep_BG, return_inverse=True)
        features_UD = sinusoid(timestep_U, self.config.frequency_width).to(dtype)
        embedded_UD = self.time_embedding(features_UD)
        projected_U6D = self.time_projection(embedded_UD).unflatten(-1, (6, -1))
        per_token = tokens.run_length == 1 and index_BG.shape[1] > 1
        return (
            TimeTable.of(projected_U6D, index_BG, per_token),
            TimeTable.of(embedded_UD.unsqueeze(1), index_BG, per_token),
        )
