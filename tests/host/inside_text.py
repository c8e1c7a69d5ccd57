"""umT5 in the process of a real ComfyUI: our text encoder against core's own, from one small file.

test_text.py runs this file by ComfyUI's own Python.
"""

from __future__ import annotations

import comfy.text_encoders.wan
import pytest
import torch

from patchdit.standalone.text_encoders import WanClip

from ..standalone.test_text_encoders import TEXTS, encode, reference, save, tensors, vocabulary

__all__ = ["reference", "tensors", "vocabulary"]  # fixtures


@pytest.fixture
def core(reference, tensors):
    """Core's tokenizer and encoder of Wan, made as small as the reference and given its weights."""
    config = reference.config
    names = "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "vocab_size"
    small = {name: getattr(config, name) for name in names}
    encoder = comfy.text_encoders.wan.WanT5Model(
        dtype=torch.float32, model_options={"umt5xxl_model_config": small}
    )
    missing, unexpected = encoder.load_sd({n: t.float() for n, t in tensors.items()})
    assert not missing and list(unexpected) == ["spiece_model"]
    told = {"spiece_model": tensors["spiece_model"]}
    return comfy.text_encoders.wan.WanT5Tokenizer(tokenizer_data=told), encoder


@torch.no_grad()
def test_every_prompt_is_encoded_as_core_does(core, tensors, tmp_path):
    tokenizer, encoder = core
    clip = WanClip(save(tensors, tmp_path / "umt5_xxl_fp16.safetensors"))
    for text in (*TEXTS, "a red \\(round\\) ball"):
        theirs = encoder.encode_token_weights(tokenizer.tokenize_with_weights(text))[0]
        assert theirs.shape == (1, 512, 32) and theirs.abs().max() > 0.5
        assert (encode(clip, text) - theirs).abs().max() < 1e-4, text
