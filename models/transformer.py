"""PatchDiT: a spacetime-patch diffusion transformer with Wan's blocks and state-dict names.

Shapes: B batch, C channels, T H W latent frames, rows, columns, L tokens, P values of a patch,
S text tokens, D width, G runs of tokens that share a timestep, U distinct timesteps.

Tokens at timestep exactly 0 are *known*. Where the config says `known_attends_known` they see only
each other, so nothing about them depends on the noise: they are computed apart, once, and cached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import (
    Attention,
    CrossAttention,
    KeysValues,
    Rotary,
    SelfAttention,
    angle_dtype,
    rotary_tables,
    sdpa,
)
from .config import TransformerConfig
from .patches import patchify, unpatchify

Cast = Callable[[Tensor, Tensor], Tensor]  # (parameter, like) -> the parameter on like's terms


def use_as_is(parameter: Tensor, like: Tensor) -> Tensor:
    return parameter


@dataclass(frozen=True)
class TextKeysValues:
    """What every layer sees of the prompts: computed once for a prompt, good for every step."""

    layers: tuple[list[KeysValues], ...]


@dataclass
class KnownCache:
    """Keys and values of known tokens, kept from one call to the next of a run.

    Give the same empty cache to every call with one prompt: the first fills it, later ones compute
    only unknown tokens. It is filled anew when the known tokens or the text change.
    """

    layers: list[KeysValues] = field(default_factory=list)
    lengths: tuple[int, ...] = ()  # known tokens of each packed clip
    velocity_BLP: Tensor | None = None
    made_from: tuple[Any, ...] = ()

    def holds(self, made_from: tuple[Any, ...]) -> bool:
        """Whether the cache was filled from these tensors (by value) and this text (by identity)."""

        def same(a: Any, b: Any) -> bool:
            if a is b or not (isinstance(a, Tensor) and isinstance(b, Tensor)):
                return a is b
            return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)

        return len(self.made_from) == len(made_from) and all(
            same(a, b) for a, b in zip(self.made_from, made_from, strict=True)
        )


@dataclass(frozen=True)
class TimeTable:
    """What the timestep says to each token: n vectors per row, looked up, never spread over L.

    Without an index, row (b,g) serves run g of sample b: rows (B,G,1,n,D). With one, token l of
    sample b takes row index[b,l]: rows (U,n,D), index (B,1,L).
    """

    rows: Tensor
    index_B1L: Tensor | None = None

    def vectors(self, learned_1nD: Tensor) -> tuple[Tensor, ...]:
        """The n vectors of every row, moved by a block's own learned ones."""
        return (self.rows + learned_1nD).unbind(-2)

    def scale_shift(self, x_BLD: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """x (1 + scale) + shift, (B,L,D)"""
        out = torch.addcmul(self.at(shift), self.runs(x_BLD), self.at(1 + scale))
        return out.flatten(1, 2)

    def add_gated(self, x_BLD: Tensor, y_BLD: Tensor, gate: Tensor) -> Tensor:
        """x + gate y, (B,L,D)"""
        out = torch.addcmul(self.runs(x_BLD), self.runs(y_BLD), self.at(gate))
        return out.flatten(1, 2)

    def at(self, vector: Tensor) -> Tensor:
        """A vector of the rows, broadcastable over (B,G,L/G,D)."""
        return vector if self.index_B1L is None else F.embedding(self.index_B1L, vector)

    def runs(self, x_BLD: Tensor) -> Tensor:
        """(B,G,L/G,D)"""
        return x_BLD.unflatten(1, (self.rows.shape[1] if self.index_B1L is None else 1, -1))


@dataclass(frozen=True)
class Pass:
    """What all blocks of one pass over a set of tokens share."""

    times: TimeTable
    rotary: Rotary
    text: TextKeysValues
    lengths: tuple[int, ...]  # tokens of each clip packed along L; one entry when unpacked
    mask: Tensor | None = None  # (B,1,L,L), true where a query sees a key
    known: KnownCache | None = None  # seen by this pass
    keep: list[KeysValues] | None = None  # receives each layer's keys and values


class ImageEmbedding(nn.Module):
    """CLIP image features to the model's width (Wan 2.1 image-to-video)."""

    def __init__(self, config: TransformerConfig, operations: Any, cast: Cast, **where):
        super().__init__()
        width = config.image_width
        self.cast = cast
        self.emb_pos = None
        if config.image_positions:
            self.emb_pos = nn.Parameter(torch.zeros(1, config.image_positions, width, **where))
        self.proj = nn.Sequential(
            operations.LayerNorm(width, **where),
            operations.Linear(width, width, **where),
            nn.GELU(),
            operations.Linear(width, config.width, **where),
            operations.LayerNorm(config.width, **where),
        )

    def forward(self, features_BSD: Tensor) -> Tensor:
        """(B,S,D); features of several images follow each other along S."""
        if self.emb_pos is not None:
            if features_BSD.shape[1] != self.emb_pos.shape[1]:
                raise ValueError(
                    f"Got {features_BSD.shape[1]} image features; this model needs "
                    f"{self.emb_pos.shape[1]} (first and last frame, one after the other)."
                )
            features_BSD = features_BSD + self.cast(self.emb_pos, features_BSD)
        return self.proj(features_BSD)


class Block(nn.Module):
    """Self-attention and MLP, modulated and gated by the timestep; cross-attention between."""

    def __init__(
        self, config: TransformerConfig, operations: Any, attention: Attention, cast: Cast, **where
    ):
        super().__init__()
        width = config.width
        self.cast, self.eps = cast, config.eps
        self.modulation = nn.Parameter(torch.randn(1, 6, width, **where) / width**0.5)
        self.self_attn = SelfAttention(config, operations, attention, **where)
        self.norm3 = operations.LayerNorm(width, eps=config.eps, **where)
        self.cross_attn = CrossAttention(config, operations, attention, **where)
        self.ffn = nn.Sequential(
            operations.Linear(width, config.mlp_width, **where),
            nn.GELU(approximate="tanh"),
            operations.Linear(config.mlp_width, width, **where),
        )

    def forward(self, x_BLD: Tensor, run: Pass, layer: int) -> Tensor:
        """(B,L,D)"""
        times = run.times
        shift1, scale1, gate1, shift2, scale2, gate2 = times.vectors(
            self.cast(self.modulation, x_BLD)
        )
        y_BLD = times.scale_shift(self.norm(x_BLD), scale1, shift1)
        y_BLD = self.attend(y_BLD, run, layer)
        x_BLD = times.add_gated(x_BLD, y_BLD, gate1)
        x_BLD = x_BLD + self.cross_attn(self.norm3(x_BLD), run.text.layers[layer], run.lengths)
        y_BLD = self.ffn(times.scale_shift(self.norm(x_BLD), scale2, shift2))
        return times.add_gated(x_BLD, y_BLD, gate2)

    def norm(self, x_BLD: Tensor) -> Tensor:
        return F.layer_norm(x_BLD, x_BLD.shape[-1:], eps=self.eps)

    def attend(self, y_BLD: Tensor, run: Pass, layer: int) -> Tensor:
        known, known_lengths = (run.known.layers[layer], run.known.lengths) if run.known else (None, ())
        y_BLD, own = self.self_attn(
            y_BLD, run.rotary, run.lengths, run.mask, known, known_lengths
        )
        if run.keep is not None:
            run.keep.append(own)
        return y_BLD


class Head(nn.Module):
    """Tokens of the model's width to patch values."""

    def __init__(self, config: TransformerConfig, operations: Any, cast: Cast, **where):
        super().__init__()
        self.cast, self.eps = cast, config.eps
        self.out_channels = config.out_channels
        patch_cells = config.patch.t * config.patch.h * config.patch.w
        self.modulation = nn.Parameter(torch.randn(1, 2, config.width, **where) / config.width**0.5)
        self.head = operations.Linear(config.width, patch_cells * config.out_channels, **where)

    def forward(self, x_BLD: Tensor, times: TimeTable) -> Tensor:
        """Patch values (B,L,P), P in our order (c,pt,ph,pw); Wan's own has c fastest."""
        shift, scale = times.vectors(self.cast(self.modulation, x_BLD))
        y_BLD = F.layer_norm(x_BLD, x_BLD.shape[-1:], eps=self.eps)
        y_BLP = self.head(times.scale_shift(y_BLD, scale, shift))
        return y_BLP.unflatten(-1, (-1, self.out_channels)).transpose(-1, -2).flatten(-2)


class PatchDiT(nn.Module):
    """Predicts the velocity, noise - x0, of a noisy latent video at timestep 1000 sigma.

    `operations` supplies Linear, LayerNorm, RMSNorm and Conv3d; `attention(q_BNLH, k, v, mask)`
    attends; `cast(parameter, like)` fetches the parameters that blocks hold directly: so a host
    brings its own layers, backend and partial loading. Peebles & Xie (arXiv:2212.09748); Wan
    (arXiv:2503.20314).
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
        self.head = Head(config, operations, cast, **where)

    def init_weights(self) -> None:
        """Start weights for training: Xavier linears, zero biases, and a head that says zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.zeros_(module.bias)
        for embedding in (self.text_embedding, self.time_embedding):
            for module in embedding:
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.head.head.weight)

    def forward(
        self,
        x_BCTHW: Tensor,
        timestep: Tensor,
        context: Tensor | TextKeysValues,
        image_features: Tensor | None = None,
        cache: KnownCache | None = None,
    ) -> Tensor:
        """The velocity (B,C,T,H,W) of latent videos.

        `timestep` is 1000 sigma: (B), (B,T) one per latent frame, or (B,L) one per token.
        `context` is text features (B,S,text_width) or what `text_keys_values` made of them;
        `image_features` (B,S,image_width) belong to a text tensor.
        """
        tokens_BLP, grid = patchify(x_BCTHW, self.config.patch)
        if timestep.ndim == 2 and timestep.shape[1] == x_BCTHW.shape[2] != grid.t:
            timestep = timestep.unflatten(1, (grid.t, -1)).amax(-1)  # as noisy as the noisiest
        positions_L3 = grid.positions(x_BCTHW.device)
        velocity_BLP = self.forward_tokens(
            tokens_BLP, positions_L3, timestep, context, None, image_features, cache
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
    ) -> Tensor:
        """The velocity (B,L,P) of any set of patches at integer `positions`, (B,L,3) or (L,3).

        `timestep` is (B) or (B,G): one for each of G equally long runs of tokens, G = L at the
        finest. With `lengths`, B is 1 and clips of so many tokens are packed along L; each sees
        itself only and its own row of `contexts`; `timestep` is then also allowed to be (clips).
        """
        lengths = self.check_tokens(tokens_BLP, positions, lengths)
        timestep_BG = self.timestep_runs(timestep, tokens_BLP, lengths)
        text = contexts
        if not isinstance(text, TextKeysValues):
            text = self.text_keys_values(text, image_features)
        if cache is not None and not self.config.known_attends_known:
            raise ValueError("A cache of known tokens needs a model with known_attends_known.")
        if not self.config.known_attends_known or not timestep_BG[0].numel():
            return self.run(tokens_BLP, positions, timestep_BG, text, lengths)
        known_BG = timestep_BG == 0
        if timestep_BG.shape[1] == 1:  # a whole sample is known or not: it sees all of itself
            return self.run(tokens_BLP, positions, timestep_BG, text, lengths)
        if not bool((known_BG == known_BG[:1]).all()):
            if cache is not None:
                raise ValueError("A cache needs the same known tokens in every sample of a batch.")
            mask = visible(known_BG.repeat_interleave(tokens_BLP.shape[1] // known_BG.shape[1], 1))
            return self.run(tokens_BLP, positions, timestep_BG, text, lengths, mask=mask)
        source = contexts if cache is not None else None
        return self.run_apart(
            tokens_BLP, positions, timestep_BG, text, lengths, known_BG[0], cache, source
        )
