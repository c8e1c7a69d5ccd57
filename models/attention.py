"""Attention of a PatchDiT: among tokens, by rotary positions, and to text.

Shapes: B batch, L tokens, S text tokens, D width, N heads, H head size (here never rows).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.nn.attention import SDPBackend, sdpa_kernel

from .config import TransformerConfig
from .rotary import rotate

Attention = Callable[..., Tensor]  # (q_BNLH, k_BNSH, v_BNSH, mask=None) -> BNLH

BACKENDS = (
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
)
LONG = 2**20  # scores of a head from which attention takes longer than choosing a backend for it
FASTER = 0.95  # of the time of torch's own choice: less is noise, and a choice should not waver
chosen: dict[Hashable, SDPBackend | None] = {}  # by shape class, as measured by this process


class KeysValues(NamedTuple):
    """What one layer's queries look at; keys are normalised and, in self-attention, rotated."""

    k_BNSH: Tensor
    v_BNSH: Tensor


def sdpa(q_BNLH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention (B,N,L,H) by torch; `mask` is boolean, true where a query sees a key.

    On CUDA, long attention without a mask goes by whichever backend of torch was the fastest when
    this process first met such a shape. Backends differ in the last digits; under
    torch.use_deterministic_algorithms(True), in training and when compiled the choice is torch's.
    """
    backend = None
    if mask is None and q_BNLH.is_cuda and may_measure(q_BNLH, k_BNSH):
        backend = chosen_backend(q_BNLH, k_BNSH, v_BNSH)
    if backend is not None:
        try:
            return attend_by(backend, q_BNLH, k_BNSH, v_BNSH)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # it could with the first shape of its class, not with this one
            chosen[shape_class(q_BNLH, k_BNSH)] = None
    return F.scaled_dot_product_attention(q_BNLH, k_BNSH, v_BNSH, attn_mask=mask)


def attend_by(backend: SDPBackend, q_BNLH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor) -> Tensor:
    """Attention (B,N,L,H) by one backend of torch; RuntimeError where it cannot."""
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q_BNLH, k_BNSH, v_BNSH)


def may_measure(q_BNLH: Tensor, k_BNSH: Tensor) -> bool:
    """Whether the backend is ours to choose, and worth it: not in training, graphs or small."""
    if is_compiling() or torch.are_deterministic_algorithms_enabled():
        return False
    if torch.is_grad_enabled() and q_BNLH.requires_grad:
        return False
    if q_BNLH.shape[2] * k_BNSH.shape[2] < LONG:
        return False
    return not (q_BNLH.is_cuda and torch.cuda.is_current_stream_capturing())


def chosen_backend(q_BNLH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor) -> SDPBackend | None:
    """The backend for this class of shapes, measured at the first of them; None: as torch does."""
    key = shape_class(q_BNLH, k_BNSH)
    if key not in chosen:
        chosen[key] = fastest_backend(q_BNLH, k_BNSH, v_BNSH)
    return chosen[key]


def shape_class(q_BNLH: Tensor, k_BNSH: Tensor) -> Hashable:
    """Shapes of one class have lengths that are equal to a power of two."""
    lengths = (q_BNLH.shape[2].bit_length(), k_BNSH.shape[2].bit_length())
    return q_BNLH.device, q_BNLH.dtype, *q_BNLH.shape[:2], q_BNLH.shape[3], *lengths


def fastest_backend(q_BNLH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor) -> SDPBackend | None:
    """The backend that is clearly faster than torch's own choice; None where there is none."""
    qkv = (q_BNLH, k_BNSH, v_BNSH)
    usual = least_seconds(lambda: F.scaled_dot_product_attention(*qkv), q_BNLH.device)
    times = {}
    for backend in BACKENDS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says why a backend cannot
                times[backend] = least_seconds(lambda b=backend: attend_by(b, *qkv), q_BNLH.device)
        except RuntimeError:
            continue  # it cannot on this device, in this dtype or memory
    best = min(times, key=lambda backend: times[backend], default=None)
    return best if best is not None and times[best] < FASTER * usual else None


def least_seconds(work: Callable[[], object], device: torch.device) -> float:
    """The least time of three calls after a first one, which may load kernels."""
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def attend_by_clip(
    attention: Attention,
    q_BNLH: Tensor,
    lengths: Sequence[int],
    seen: Sequence[KeysValues],
    mask: Tensor | None = None,
) -> Tensor:
    """Attention (B,N,L,H) of clips packed along L: clip i's queries see the keys seen[i] only."""
    if len(seen) == 1:
        return attention(q_BNLH, *seen[0], mask)
    clips = zip(q_BNLH.split(list(lengths), dim=2), seen, strict=True)
    return torch.cat([attention(q, k, v) for q, (k, v) in clips if q.shape[2]], dim=2)


def split_clips(seen: KeysValues, lengths: Sequence[int]) -> list[KeysValues]:
    """The keys and values of each clip packed along L."""
    if len(lengths) == 1:
        return [seen]
    parts = (y_BNSH.split(list(lengths), dim=2) for y_BNSH in seen)
    return [KeysValues(k, v) for k, v in zip(*parts, strict=True)]


class Projections(nn.Module):
    """The projections that self- and cross-attention share, under Wan's names."""

    def __init__(self, config: TransformerConfig, operations: Any, attention: Attention, **where):
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attention = attention
        self.q = operations.Linear(width, width, **where)
        self.k = operations.Linear(width, width, **where)
        self.v = operations.Linear(width, width, **where)
        self.o = operations.Linear(width, width, **where)
        self.norm_q = operations.RMSNorm(width, eps=config.eps, **where)  # over all heads at once
        self.norm_k = operations.RMSNorm(width, eps=config.eps, **where)

    def split_heads(self, x_BLD: Tensor) -> Tensor:
        """(B,L,N,H)"""
        return x_BLD.unflatten(-1, (self.heads, -1))


class SelfAttention(Projections):
    """Every token looks at the tokens of its clip, with rotary positions."""

    def forward(
        self,
        x_BLD: Tensor,
        rotary: Tensor,
        lengths: Sequence[int],
        mask: Tensor | None = None,
        known: KeysValues | None = None,
        known_lengths: Sequence[int] = (),
    ) -> tuple[Tensor, KeysValues]:
        """The attended (B,L,D), and this call's own keys and values, which a cache may keep.

        `lengths` are the clips packed along L (one entry: no packing). `known` are keys and values
        of tokens that are seen but not computed here; each clip looks at its own share of them.
        """
        # Under autocast projections are narrower than x and the norms' weights: norm in x's type.
        v_BNLH = self.split_heads(self.v(x_BLD)).transpose(1, 2)
        q_BNLH = self.rotated(self.norm_q(self.q(x_BLD).to(x_BLD.dtype)), rotary, v_BNLH.dtype)
        k_BNLH = self.rotated(self.norm_k(self.k(x_BLD).to(x_BLD.dtype)), rotary, v_BNLH.dtype)
        own = KeysValues(k_BNLH, v_BNLH)
        seen = split_clips(own, lengths)
        if known is not None:
            clips = zip(split_clips(known, known_lengths), seen, strict=True)
            seen = [
                KeysValues(
                    torch.cat((old.k_BNSH, new.k_BNSH), 2), torch.cat((old.v_BNSH, new.v_BNSH), 2)
                )
                for old, new in clips
            ]
        out_BNLH = attend_by_clip(self.attention, q_BNLH, lengths, seen, mask)
        return self.o(out_BNLH.transpose(1, 2).flatten(2)), own

    def rotated(self, x_BLD: Tensor, rotary: Tensor, dtype: torch.dtype) -> Tensor:
        """(B,N,L,H)"""
        return rotate(self.split_heads(x_BLD), rotary).to(dtype).transpose(1, 2)


class CrossAttention(Projections):
    """Every token looks at its clip's text, and at its image features where the model has them."""

    def __init__(self, config: TransformerConfig, operations: Any, attention: Attention, **where):
        super().__init__(config, operations, attention, **where)
        self.sees_image = config.image_width > 0
        if self.sees_image:
            self.k_img = operations.Linear(config.width, config.width, **where)
            self.v_img = operations.Linear(config.width, config.width, **where)
            self.norm_k_img = operations.RMSNorm(config.width, eps=config.eps, **where)

    def keys_values(self, text_BSD: Tensor, image_BSD: Tensor | None) -> list[KeysValues]:
        """Keys and values of embedded text, and of embedded image features if there are any."""
        pairs = [(self.norm_k(self.k(text_BSD).to(text_BSD.dtype)), self.v(text_BSD))]
        if image_BSD is not None:
            k_BSD = self.k_img(image_BSD).to(image_BSD.dtype)
            pairs.append((self.norm_k_img(k_BSD), self.v_img(image_BSD)))
        return [
            KeysValues(*(self.split_heads(y.to(v.dtype)).transpose(1, 2) for y in (k, v)))
            for k, v in pairs
        ]

    def forward(self, x_BLD: Tensor, seen: list[KeysValues], lengths: Sequence[int]) -> Tensor:
        """The attended (B,L,D); text and image are attended to apart and summed."""
        q_BLD = self.norm_q(self.q(x_BLD).to(x_BLD.dtype))
        q_BNLH = self.split_heads(q_BLD.to(seen[0].v_BNSH.dtype)).transpose(1, 2)
        clips = len(lengths)
        parts = [
            attend_by_clip(self.attention, q_BNLH, lengths, split_rows(pair, clips))
            for pair in seen
        ]
        out_BNLH = sum(parts[1:], parts[0])
        return self.o(out_BNLH.transpose(1, 2).flatten(2))


def split_rows(seen: KeysValues, clips: int) -> list[KeysValues]:
    """A row for each packed clip; unpacked, all rows at once."""
    if clips == 1:
        return [seen]
    return [KeysValues(k, v) for k, v in zip(*(y.split(1) for y in seen), strict=True)]
