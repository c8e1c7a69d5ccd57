"""The shipped small model: where its files are, reading and writing them.

Three safetensors files and a vocabulary lie in one folder. The metadata of each file says what was built
("patchdit.config", JSON), under which licence, and how it was trained ("patchdit.training", JSON).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from .checkpoints import load_strictly, read_metadata, save_checkpoint
from .config import TextConfig, TransformerConfig, VAEConfig
from .text import TextEncoder, Tokenizer
from .transformer import PatchDiT
from .video_vae import VideoVAE

FOLDER = Path(__file__).parent / "weights"
NAMES = {
    "transformer": "blockworld-mini-transformer.safetensors",
    "vae": "blockworld-mini-vae.safetensors",
    "text": "blockworld-mini-text.safetensors",
    "tokenizer": "blockworld-mini-tokenizer.json",
}
LICENCE = "MIT"


@dataclass(frozen=True)
class Blockworld:
    """The parts of the shipped model, in evaluation mode."""

    transformer: PatchDiT
    vae: VideoVAE
    text: TextEncoder
    tokenizer: Tokenizer

    def encode_text(self, prompts: list[str]):
        """Context [B,S,D] of prompts, padded with zeros as the transformer was trained."""
        device = next(self.text.parameters()).device
        return self.text(self.tokenizer.batch(prompts, self.text.config.length).to(device))
