"""What a PatchDiT is built of: its block, final layer and image embedder, and what they share.

Shapes: B batch, L tokens, P values of a patch, S text tokens, D width, G runs of tokens that share
a timestep, U distinct timesteps, n vectors per timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, CrossAttention, KeysValues, SelfAttention
from .config import TransformerConfig
from .rotary import angle_dtype

Cast = Callable[[Tensor, Tensor], Tensor]  # (parameter, like) -> the parameter on like's terms


@dataclass(frozen=True, eq=False)
class TextKeysValues:
    """What every layer sees of the prompts: computed once for a prompt, good for every step."""

    layers: tuple[list[KeysValues], ...]

    @property
    def rows(self) -> int:
        """How many prompts."""
        return self.layers[0][0].k_BNSH.shape[0]


@dataclass
class KnownCache:
    """Keys and values of known tokens, kept from one call to the next of a run.

    Give the same empty cache to every call with one prompt: the first fills it, later ones compute
    only unknown tokens. It is filled anew when the known tokens or the text change.
    """

    layers: list[KeysValues] = field(default_factory=list)
    lengths: tuple[int, ...] = ()  # known tokens of each packed clip
    velocity_BLP: Tensor = field(default_factory=lambda: torch.empty(0))
    made_from: tuple[Any, ...] = ()

    def holds(self, made_from: tuple[Any, ...]) -> bool:
        """Whether the cache was filled from the same values."""

        def same(a: Any, b: Any) -> bool:
            if isinstance(a, Tensor) and isinstance(b, Tensor):
                return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
            return type(a) is type(b) and a == b

        return len(self.made_from) == len(made_from) and all(map(same, self.made_from, made_from))


@dataclass(frozen=True)
class TokenSet:
    """Patches with their positions and timesteps, G equally long runs of them along L."""

    values_BLP: Tensor
    positions: Tensor  # (B,L,3) or (L,3)
    timestep_BG: Tensor
    lengths: tuple[int, ...]  # tokens of each clip packed along L; one entry when unpacked

    @property
    def run_length(self) -> int:
        return self.values_BLP.shape[1] // self.timestep_BG.shape[1]

    def select(self, runs: Tensor) -> TokenSet:
        """The given runs only; a packed clip may end up with no tokens."""
        lengths = (len(runs) * self.run_length,)
        if len(self.lengths) > 1:  # packed: runs are tokens
            ends = torch.tensor(self.lengths, device=runs.device).cumsum(0)
            clip = torch.bucketize(runs, ends, right=True)
            lengths = tuple(torch.bincount(clip, minlength=len(self.lengths)).tolist())

        def pick(x: Tensor, dim: int) -> Tensor:
            x = x.unflatten(dim, (-1, self.run_length)).index_select(dim, runs)
            return x.flatten(dim, dim + 1)

        return TokenSet(
            pick(self.values_BLP, 1),
            pick(self.positions, self.positions.ndim - 2),
            self.timestep_BG.index_select(1, runs),
            lengths,
        )


@dataclass(frozen=True)
class TimeTable:
    """What the timestep says to each token: n vectors per row, looked up, never spread over L.

    Without an index, row (b,g) serves run g of sample b: rows (B,G,1,n,D). With one, token l of
    sample b takes row index[b,l]: rows (U,n,D), index (B,1,L). Where one timestep serves all there
    is one row, (1,1,1,n,D), and no index.
    """

    rows: Tensor
    index_B1L: Tensor | None = None

    @classmethod
    def of(cls, rows_UnD: Tensor, index_BG: Tensor, per_token: bool) -> TimeTable:
        """The table in which run g of sample b has row index[b,g]; per token, runs are tokens."""
        if len(rows_UnD) == 1:
            return cls(rows_UnD[None, None])
        if per_token:
            return cls(rows_UnD, index_BG.unsqueeze(1))
        return cls(rows_UnD[index_BG].unsqueeze(2))

    def vectors(self, learned_1nD: Tensor) -> tuple[Tensor, ...]:
        """The n vectors of every row, moved by a block's own learned ones."""
        return (self.rows + learned_1nD).unbind(-2)

    def norm_scale_shift(self, x_BLD: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
        """layer_norm(x) (1 + scale) + shift, (B,L,D); one pass over x where there is one row."""
        width = x_BLD.shape[-1:]
        if self.index_B1L is None and self.rows.shape[:3] == (1, 1, 1):
            weight, bias = (1 + scale).flatten(), shift.flatten()
            return F.layer_norm(x_BLD, width, weight, bias, eps)
        runs = self.runs(F.layer_norm(x_BLD, width, eps=eps))
        return torch.addcmul(self.at(shift), runs, self.at(1 + scale)).flatten(1, 2)

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
    rotary: Tensor  # cosine and sine of the tokens' angles
    text: TextKeysValues
    lengths: tuple[int, ...]  # tokens of each clip packed along L; one entry when unpacked
    mask: Tensor | None = None  # (B,1,L,L), true where a query sees a key
    known: KnownCache | None = None  # seen by this pass
    keep: list[KeysValues] | None = None  # receives each layer's keys and values
    hints: Iterator[Tensor] | None = None  # (B,L,D) each: what a control adds, in turn


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
        """(B,S,D); features of several images follow each other along S.

        With positions (first and last frame) a single image takes the first half of them, as in
        ComfyUI; ValueError for more features than positions.
        """
        if self.emb_pos is not None:
            count = features_BSD.shape[1]
            if count > self.emb_pos.shape[1]:
                raise ValueError(
                    f"Got {count} image features; this model needs at most "
                    f"{self.emb_pos.shape[1]} (first and last frame, one after the other)."
                )
            features_BSD = features_BSD + self.cast(self.emb_pos[:, :count], features_BSD)
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
        y_BLD = times.norm_scale_shift(x_BLD, scale1, shift1, self.eps)
        y_BLD = self.attend(y_BLD, run, layer)
        x_BLD = times.add_gated(x_BLD, y_BLD, gate1)
        x_BLD = x_BLD + self.cross_attn(self.norm3(x_BLD), run.text.layers[layer], run.lengths)
        y_BLD = self.ffn(times.norm_scale_shift(x_BLD, scale2, shift2, self.eps))
        return times.add_gated(x_BLD, y_BLD, gate2)

    def attend(self, y_BLD: Tensor, run: Pass, layer: int) -> Tensor:
        known, known_lengths = (
            (run.known.layers[layer], run.known.lengths) if run.known else (None, ())
        )
        y_BLD, own = self.self_attn(y_BLD, run.rotary, run.lengths, run.mask, known, known_lengths)
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
        y_BLP = self.head(times.norm_scale_shift(x_BLD, scale, shift, self.eps))
        return y_BLP.unflatten(-1, (-1, self.out_channels)).transpose(-1, -2).flatten(-2)


def sinusoid(timestep_U: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of timestep / 10000^(i/half), (U,width)."""
    dtype, half = angle_dtype(timestep_U.device), width // 2
    places = torch.arange(half, device=timestep_U.device, dtype=dtype)
    angle = timestep_U.to(dtype)[:, None] * 10000.0 ** (-places / half)
    return torch.cat((angle.cos(), angle.sin()), dim=-1).float()


def timestep_runs(timestep: Tensor, tokens_BLP: Tensor, lengths: Sequence[int] | None) -> Tensor:
    """Timesteps as (B,G), G equal runs along L; one for each packed clip is spread to tokens."""
    B, L, _ = tokens_BLP.shape
    if lengths is not None and timestep.shape == (len(lengths),):
        return timestep.repeat_interleave(torch.tensor(lengths, device=timestep.device))[None]
    if timestep.ndim == 1 and lengths is None:
        timestep = timestep[:, None]
    runs = timestep.shape[1] if timestep.ndim == 2 and timestep.shape[0] == B else 0
    if not runs or L % runs or (lengths is not None and runs != L):
        clips = f" in {len(lengths)} clips" if lengths is not None else ""
        frames = ", per latent frame" if lengths is None else ""
        raise ValueError(
            f"Got timesteps {tuple(timestep.shape)} for {B}x{L} tokens{clips}; need one per clip"
            f"{frames} or per token."
        )
    return timestep


def known_sees_known(known_BG: Tensor, tokens: int) -> Tensor:
    """(B,1,L,L), true where the query may see the key: not where a known one sees an unknown."""
    known_BL = known_BG.repeat_interleave(tokens // known_BG.shape[1], dim=1)
    return (known_BL[:, None, :] | ~known_BL[:, :, None])[:, None]
