"""Wan's text encoder, umT5, where there is no ComfyUI: a CLIP through the `transformers` package.

Weights stay as they are stored, 16 or 8 bits, and each layer's are turned into float32 when it
computes; so is ComfyUI's result. B prompts, S text tokens, D width, V tokens known.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..models.quantised import WEIGHT_SCALES, find_quantisation
from ..models.weight_sets import WeightSet, check_room, find_weights, read_all
from .host import get_torch_device

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

LENGTH = 512  # of every context; what lies beyond the text is zeros
PAD, END = 0, 1
VOCABULARY = "spiece_model"  # the tensor in ComfyUI's files whose bytes are the tokenizer
EMBEDDING = "shared.weight"
QUERY = "encoder.block.0.layer.0.SelfAttention.q.weight"
POSITIONS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
FFN = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"


class StoredLinear(nn.Linear):
    """A linear layer whose weight is float32 only while somebody looks at it."""

    scale: Tensor | None

    @property
    def weight(self) -> Tensor:
        weight = self._parameters["weight"]
        assert weight is not None
        return weight.float() if self.scale is None else weight.float() * self.scale


class WanClip:
    """A CLIP: prompts become Wan's conditioning. `path` is a file, a shard or a folder.

    A ValueError says what the file is instead, or which package is missing.
    """

    def __init__(self, path: str | Path, device: torch.device | None = None):
        check_packages()
        weights = find_weights(path, "text_encoder")
        self._tokenizer = read_tokenizer(weights)
        self._encoder, self._embedding_VD = read_encoder(weights)
        self._device = device or get_torch_device()

    def clone(self) -> WanClip:
        return self

    def tokenize(self, text: str, **_options: Any) -> Tensor:
        """Token numbers (1,S) with the end's; S is at least 512, and nothing is cut off."""
        if re.search(r"(?<!\\)[()]", text):
            logging.warning("Without ComfyUI, ( and ) in a prompt are text and weigh nothing.")
        text = text.replace("\\(", "(").replace("\\)", ")")
        tokens = [*self._tokenizer.encode(text), END]
        return torch.tensor([tokens + [PAD] * (LENGTH - len(tokens))])

    @torch.no_grad()
    def encode_from_tokens(self, tokens_BS: Tensor, **_options: Any) -> Tensor:
        """Context (B,S,D), float32 on the CPU, zero beyond each prompt's end."""
        context_BSD = torch.zeros(*tokens_BS.shape, self._embedding_VD.shape[1])
        self._encoder.to(self._device)
        try:
            for tokens_S, context_SD in zip(tokens_BS.tolist(), context_BSD, strict=True):
                length = tokens_S.index(END) + 1  # the padding is masked: it need not be computed
                embedded_1SD = self._embed(torch.tensor([tokens_S[:length]]))
                encoded = self._encoder(inputs_embeds=embedded_1SD).last_hidden_state
                context_SD[:length] = encoded[0].cpu()
        finally:
            self._encoder.to("cpu")  # a GPU is for the video model
        return context_BSD

    def encode_from_tokens_scheduled(self, tokens_BS: Tensor, **_options: Any) -> list:
        return [[self.encode_from_tokens(tokens_BS), {"pooled_output": None}]]

    def _embed(self, tokens_1S: Tensor) -> Tensor:
        return self._embedding_VD[tokens_1S].float().to(self._device)


def check_packages() -> None:
    missing = [
        name for name in ("transformers", "sentencepiece") if not importlib.util.find_spec(name)
    ]
    if missing:
        raise ValueError(
            f"Wan's text encoder needs {' and '.join(missing)} where there is no ComfyUI:"
            f" pip install {' '.join(missing)}."
        )


def read_tokenizer(weights: WeightSet) -> SentencePieceProcessor:
    """The tokenizer in the file itself, or spiece.model in its folder or a "tokenizer" beside."""
    from sentencepiece import SentencePieceProcessor

    if VOCABULARY in weights.tensors:
        (model,) = read_all([weights.tensors[VOCABULARY]])
        return SentencePieceProcessor(model_proto=model.numpy().tobytes())
    folder = weights.path if weights.path.is_dir() else weights.path.parent
    for place in (folder, folder / "tokenizer", folder.parent / "tokenizer"):
        if (place / "spiece.model").is_file():
            return SentencePieceProcessor(model_file=str(place / "spiece.model"))
    raise ValueError(
        f"{weights.file} has no tokenizer in it and no spiece.model beside it; need ComfyUI's"
        " umt5_xxl file, or the tokenizer folder of the diffusers repository."
    )


def read_encoder(weights: WeightSet) -> tuple[nn.Module, Tensor]:
    """The encoder and its embedding_VD on the CPU, read one tensor at a time."""
    encoder = build_encoder(weights)
    stored, file = weights.tensors, weights.file
    names = [n for n in encoder.state_dict(prefix="encoder.") if "embed_tokens" not in n]
    missing = [name for name in (*names, EMBEDDING) if name not in stored]
    if missing:
        listed = ", ".join(missing[:5])
        raise ValueError(f"{file} is not a whole umT5: it lacks {len(missing)} tensors: {listed}.")
    check_room(sum(stored[name].bytes for name in (*names, EMBEDDING)), file)
    find_quantisation(stored, weights.metadata, file)  # refuses what is not fp8
    for name in names:
        place(encoder, name.removeprefix("encoder."), name, weights)
    encoder.embed_tokens = nn.Identity()  # prompts arrive embedded
    (embedding_VD,) = read_all([stored[EMBEDDING]])
    return encoder.eval(), embedding_VD


def place(encoder: nn.Module, parameter: str, name: str, weights: WeightSet) -> None:
    """Read one tensor into the encoder: a linear layer's as it is stored, others as float32."""
    module, _, kind = parameter.rpartition(".")
    layer = encoder.get_submodule(module)
    if weights.tensors[name].shape != layer.state_dict()[kind].shape:
        shape = "x".join(map(str, weights.tensors[name].shape))
        raise ValueError(f"{weights.file} is no umT5: {name} is {shape} in it.")
    (tensor,) = read_all([weights.tensors[name]])
    if isinstance(layer, nn.Linear):
        layer.__class__ = StoredLinear
        names = [name.removesuffix(".weight") + ending for ending in WEIGHT_SCALES]
        scales = read_all([weights.tensors[n] for n in names if n in weights.tensors])
        layer.register_buffer("scale", next((scale.float() for scale in scales), None))
    else:
        tensor = tensor.float()
    layer.register_parameter(kind, nn.Parameter(tensor, requires_grad=False))


def build_encoder(weights: WeightSet) -> Any:
    """A umT5 encoder without values, of the sizes that the tensors' shapes speak of."""
    shapes = {name: stored.shape for name, stored in weights.tensors.items()}
    if not {EMBEDDING, QUERY, POSITIONS, FFN} <= set(shapes):
        raise ValueError(
            f"{weights.file} is no umT5 in Hugging Face's names; need ComfyUI's"
            " umt5_xxl_*.safetensors, or the text_encoder folder of a Wan diffusers repository."
        )
    from transformers import UMT5Config, UMT5EncoderModel

    buckets, heads = shapes[POSITIONS]
    vocabulary, width = shapes[EMBEDDING]
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=shapes[QUERY][0] // heads,
        d_ff=shapes[FFN][0],
        num_layers=len({n.split(".")[2] for n in shapes if n.startswith("encoder.block.")}),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
    )
    with torch.device("meta"):
        return UMT5EncoderModel(config).encoder
