"""umT5 in the process of a real ComfyUI: our text encoder against core's own, from one small file.

test_text.py runs this file by ComfyUI's own Python.
"""

from __future__ import annotations

import comfy.sd
import comfy.text_encoders.wan
import folder_paths
import pytest
import torch
import transformers

import nodes
from patchdit.standalone.text_encoders import WanClip

from ..standalone.test_text_encoders import TEXTS, encode, reference, save, tensors, vocabulary

__all__ = ["reference", "tensors", "vocabulary"]  # fixtures

# Core knows umT5 XXL by its 24 layers and how wide their MLPs are; all else of this one is small.
XXL = {"d_model": 32, "d_kv": 8, "d_ff": 10240, "num_layers": 24, "num_heads": 4, "vocab_size": 40}


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


@pytest.fixture
def loaded(vocabulary, tmp_path, monkeypatch):
    """The file, and the CLIP that core's CLIPLoader makes of it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = transformers.UMT5EncoderModel(transformers.UMT5Config(**XXL))
        values = {n: w + torch.randn_like(w) / 50 for n, w in encoder.state_dict().items()}
    values.pop("encoder.embed_tokens.weight")
    told = {"spiece_model": torch.tensor(list(vocabulary), dtype=torch.uint8)}
    file = save(
        {n: w.half() for n, w in values.items()} | told, tmp_path / "umt5_xxl_fp16.safetensors"
    )
    folder_paths.add_model_folder_path("text_encoders", str(tmp_path))
    options = {"umt5xxl_model_config": XXL, "dtype": torch.float32}
    core = comfy.sd.load_clip
    monkeypatch.setattr(
        comfy.sd, "load_clip", lambda **given: core(**given | {"model_options": options})
    )
    return file, nodes.CLIPLoader().load_clip(file.name, "wan")[0]


def test_cores_loader_and_cores_text_node_say_what_ours_does(loaded):
    file, clip = loaded
    for text in TEXTS:
        ((context, _),) = nodes.CLIPTextEncode().encode(clip, text)[0]
        assert context.shape == (1, 512, 32) and context.abs().max() > 0.5
        assert (encode(WanClip(file), text) - context).abs().max() < 1e-4, text
