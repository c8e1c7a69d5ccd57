"""The mini model's text side: a tokenizer with byte fallback and a small two-way transformer.

B batch, S text tokens, D width.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor, nn

from .attention import Attention, sdpa
from .config import TextConfig

BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a token of the vocabulary's that stands for a byte


class Tokenizer:
    """Text to token numbers. 0 pads; characters that the vocabulary lacks are spelled in bytes."""

    def __init__(self, path: str | Path):
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        vocabulary = self._tokenizer.get_vocab()
        self._bytes = {number for token, number in vocabulary.items() if BYTE.fullmatch(token)}

    @property
    def size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Token numbers of `text`, without padding; an empty text has none."""
        return self._tokenizer.encode(text).ids

    def batch(self, texts: list[str], length: int) -> Tensor:
        """What the model reads of texts: token numbers [B, length] int64, padded with 0.

        Bytes are left out: captions have none, so to the model they are noise, as loud as words
        that it knows (docs/decisions/0018).

        Raises ValueError when a text is longer than `length` tokens: nothing is cut off silently.
        """
        rows = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [number for number in self.encode(text) if number not in self._bytes]
            if len(ids) > length:
                raise ValueError(
                    f"The prompt has {len(ids)} tokens and this model reads at most {length}: "
                    f"shorten it (it begins with {text[:40]!r})."
                )
            row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return rows


class TextBlock(nn.Module):
    """Pre-norm self-attention and GELU MLP."""

    def __init__(self, config: TextConfig, attention: Attention, **where):
        super().__init__()
        D = config.width
        self.heads = config.heads
        self.attention = attention
        self.norm1 = nn.LayerNorm(D, **where)
        self.qkv = nn.Linear(D, 3 * D, **where)
        self.out = nn.Linear(D, D, **where)
        self.norm2 = nn.LayerNorm(D, **where)
        self.mlp = nn.Sequential(
            nn.Linear(D, 4 * D, **where), nn.GELU(approximate="tanh"), nn.Linear(4 * D, D, **where)
        )
        self.start_small()

    @torch.no_grad()
    def start_small(self) -> None:
        """Begin as hardly more than a bag of words: what words alone say is learned first."""
        for layer in (self.out, self.mlp[2]):
            layer.weight.mul_(0.1)  # pyright: ignore
            layer.bias.zero_()  # pyright: ignore

    def forward(self, x_BSD: Tensor, mask_B11S: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x_BSD)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = self.attention(q, k, v, mask_B11S)
        x_BSD = x_BSD + self.out(y.transpose(1, 2).flatten(2))
        return x_BSD + self.mlp(self.norm2(x_BSD))


class TextEncoder(nn.Module):
    """Token numbers to a context that PatchDiT attends to, zero behind the text as Wan pads."""

    def __init__(self, config: TextConfig, attention: Attention = sdpa, device=None, dtype=None):
        super().__init__()
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width, **where)
        self.position = nn.Parameter(torch.randn(config.length, config.width, **where) * 0.02)
        self.blocks = nn.ModuleList(
            [TextBlock(config, attention, **where) for _ in range(config.layers)]
        )
        self.norm = nn.LayerNorm(config.width, **where)
        nn.init.normal_(self.embedding.weight, std=0.5)

    def forward(self, tokens_BS: Tensor) -> Tensor:
        """Context [B, S, D] of padded token numbers (0 = padding)."""
        real_BS = tokens_BS != 0
        x_BSD = self.embedding(tokens_BS) + self.position[: tokens_BS.shape[1]]
        empty_B1 = ~real_BS.any(1, keepdim=True)  # an empty text sees its padding, then gives zeros
        mask_B11S = (real_BS | empty_B1)[:, None, None]
        for block in self.blocks:
            x_BSD = block(x_BSD, mask_B11S)
        return self.norm(x_BSD) * real_BS[..., None]
