"""The shipped small model: where its files are, reading and writing them.

Three safetensors files and a vocabulary lie in one folder. The metadata of each file says what is
built from it (`checkpoints.CONFIG_KEY`), under which licence, and how it was trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from .checkpoints import config_metadata, load_strictly, read_part, read_tensors, save_checkpoint
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
_CONFIGS = {"transformer": TransformerConfig, "vae": VAEConfig, "text": TextConfig}

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Blockworld:
    """The parts of the model, in evaluation mode."""

    transformer: PatchDiT
    vae: VideoVAE
    text: TextEncoder
    tokenizer: Tokenizer

    def encode_text(self, prompts: list[str]) -> Tensor:
        """Context [B,S,D] of prompts, padded with zeros as the transformer was trained."""
        device = next(self.text.parameters()).device
        return self.text(self.tokenizer.batch(prompts, self.text.config.length).to(device))


def load(folder: str | Path = FOLDER) -> Blockworld:
    """The whole model in `folder`; a ValueError names a file that is missing or does not fit."""
    return Blockworld(
        load_transformer(folder),
        load_vae(folder),
        load_text_encoder(folder),
        load_tokenizer(folder),
    )


def load_transformer(folder: str | Path = FOLDER) -> PatchDiT:
    return _load(folder, "transformer", PatchDiT)


def load_vae(folder: str | Path = FOLDER) -> VideoVAE:
    return _load(folder, "vae", VideoVAE)


def load_text_encoder(folder: str | Path = FOLDER) -> TextEncoder:
    return _load(folder, "text", TextEncoder)


def load_tokenizer(folder: str | Path = FOLDER) -> Tokenizer:
    path = Path(folder) / NAMES["tokenizer"]
    if not path.is_file():
        raise ValueError(f"There is no vocabulary {path}.")
    try:
        return Tokenizer(path)
    except Exception as error:  # tokenizers raises nothing narrower
        raise ValueError(f"{path.name} is not a whole vocabulary ({error}).") from error


def save(part: str, module: nn.Module, folder: str | Path, facts: dict[str, Any]) -> None:
    """Write one part ("transformer", "vae" or "text"), in float16, with facts of its training."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    metadata = config_metadata(**{part: module.config})
    metadata |= {"license": "MIT", "patchdit.training": json.dumps(facts)}
    halves = {name: tensor.half() for name, tensor in module.state_dict().items()}
    save_checkpoint(folder / NAMES[part], halves, metadata)


def _load(folder: str | Path, part: str, build: Callable[[Any], Module]) -> Module:
    path = Path(folder) / NAMES[part]
    config = read_part(path, part, _CONFIGS[part])
    if config is None:
        raise ValueError(f"{path.name} has no {part} config: it is not one of our files.")
    module = build(config)
    load_strictly(module, read_tensors(path), path)
    return module.eval()
