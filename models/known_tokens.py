"""Known tokens computed apart from the rest: once, since nothing about them depends on the noise.

Shapes: B batch, L tokens, P values of a patch, G runs of tokens that share a timestep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .attention import KeysValues
from .blocks import KnownCache, TextKeysValues, TokenSet


def run_known_apart(
    run: Callable[..., Tensor],
    whole: TokenSet,
    text: TextKeysValues,
    known_G: Tensor,
    cache: KnownCache | None,
    source: tuple[Any, ...],
) -> Tensor:
    """The velocity (B,L,P) of known tokens, unless the cache has them; then of the rest.

    `run` is one pass of the network over a set of tokens; the rest also sees the known ones.
    `source` is what `text` was made from: a cache of another prompt is made anew.
    """
    known, unknown = known_G.nonzero().flatten(), (~known_G).nonzero().flatten()
    if not len(known):
        return run(whole, text)
    known_tokens = whole.select(known)
    made_from = (known_tokens.values_BLP, known_tokens.positions, known, whole.lengths, *source)
    cache = KnownCache() if cache is None else cache
    if not cache.holds(made_from):
        keep: list[KeysValues] = []
        cache.velocity_BLP = run(known_tokens, text, keep=keep)
        cache.layers, cache.lengths, cache.made_from = keep, known_tokens.lengths, made_from
    if not len(unknown):
        return cache.velocity_BLP
    velocity_BLP = run(whole.select(unknown), text, known=cache)
    runs = [y.unflatten(1, (-1, whole.run_length)) for y in (cache.velocity_BLP, velocity_BLP)]
    order = torch.cat((known, unknown)).argsort()
    return torch.cat(runs, dim=1)[:, order].flatten(1, 2)
