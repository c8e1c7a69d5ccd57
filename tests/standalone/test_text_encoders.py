"""umT5 through WanClip against transformers' own, from files of every layout that we read."""

from __future__ import annotations

import importlib.util
import io
import json

import pytest
import torch
from safetensors.torch import save_file

from patchdit.standalone.core_nodes import CORE_NODES
from patchdit.standalone.host import Session, use_session
from patchdit.standalone.text_encoders import StoredLinear, WanClip

sentencepiece = pytest.importorskip("sentencepiece")
transformers = pytest.importorskip("transformers")

TEXTS = ["a red ball bounces", "a blue cube", "stars spin around a ring", ""]
HALVED = torch.float16


@pytest.fixture(scope="session")
def vocabulary() -> bytes:
    """A sentencepiece model with umT5's special tokens."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS[:3] * 20),
        model_writer=model,
        vocab_size=40,
        model_type="char",
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def reference():
    config = transformers.UMT5Config(
        vocab_size=40, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = transformers.UMT5EncoderModel(config).eval()
        for parameter in encoder.parameters():
            parameter.data = (torch.randn_like(parameter) / 4).to(HALVED).float()
    return encoder


@pytest.fixture
def tensors(reference, vocabulary):
    """What ComfyUI's umt5_xxl_fp16.safetensors holds, small."""
    names = {"encoder.embed_tokens.weight"}
    state = {n: t.to(HALVED) for n, t in reference.state_dict().items() if n not in names}
    return state | {"spiece_model": torch.tensor(list(vocabulary), dtype=torch.uint8)}


def save(tensors, path, **metadata):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, str(path), metadata)
    return path


def encode(clip, text):
    ((context, more),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    assert more == {"pooled_output": None}
    return context


@torch.no_grad()
def expected(reference, vocabulary, text):
    """By transformers alone: padded to 512, masked, zeroed beyond the text."""
    tokens = [*sentencepiece.SentencePieceProcessor(model_proto=vocabulary).encode(text), 1]
    ids = torch.tensor([tokens + [0] * (512 - len(tokens))])
    mask = (torch.arange(512) < len(tokens)).long()[None]
    return reference(ids, attention_mask=mask).last_hidden_state * mask[..., None]


def test_comfyuis_file_gives_what_transformers_gives(tensors, reference, vocabulary, tmp_path):
    clip = WanClip(save(tensors, tmp_path / "umt5_xxl_fp16.safetensors"))
    for text in TEXTS:
        context = encode(clip, text)
        wanted = expected(reference, vocabulary, text)
        assert context.shape == (1, 512, 32) and context.dtype == torch.float32
        assert wanted.abs().max() > 0.5
        torch.testing.assert_close(context, wanted, atol=1e-5, rtol=1e-5)
        length = len(sentencepiece.SentencePieceProcessor(model_proto=vocabulary).encode(text)) + 1
        assert not context[:, length:].any() and context[:, length - 1].any()


def test_several_prompts_are_each_as_alone(tensors, tmp_path):
    clip = WanClip(save(tensors, tmp_path / "umt5.safetensors"))
    tokens = torch.cat([clip.tokenize(text) for text in TEXTS])
    alone = torch.cat([encode(clip, text) for text in TEXTS])
    assert torch.equal(clip.encode_from_tokens(tokens), alone)


def test_weights_stay_as_they_are_stored(tensors, tmp_path):
    clip = WanClip(save(tensors, tmp_path / "umt5.safetensors"))
    layers = [m for m in clip._encoder.modules() if isinstance(m, StoredLinear)]
    assert len(layers) == 2 * 7
    for layer in layers:
        assert layer._parameters["weight"].dtype == HALVED
        assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("scheme", ["plain", "old", "new"])
def test_8_bit_floats_times_their_scale(tensors, reference, vocabulary, tmp_path, scheme):
    """A reference that holds the rounded weights gives the same context."""
    rounded = {name: tensor.float() for name, tensor in tensors.items() if name != "spiece_model"}
    for name in [n for n in tensors if "SelfAttention.q" in n or "DenseReluDense" in n]:
        scale = tensors[name].float().abs().max() / 448 if scheme != "plain" else torch.tensor(1.0)
        tensors[name] = (tensors[name].float() / scale).to(torch.float8_e4m3fn)
        rounded[name] = tensors[name].float() * scale
        if scheme != "plain":
            ending = ".scale_weight" if scheme == "old" else ".weight_scale"
            tensors[name.removesuffix(".weight") + ending] = scale
    if scheme == "old":
        tensors["scaled_fp8"] = torch.zeros(0, dtype=torch.float8_e4m3fn)
    layers = {n.removesuffix(".weight"): {"format": "float8_e4m3fn"} for n in rounded}
    metadata = {"_quantization_metadata": json.dumps({"layers": layers})}
    path = save(tensors, tmp_path / "umt5.safetensors", **(metadata if scheme == "new" else {}))
    copy = transformers.UMT5EncoderModel(reference.config).eval()
    copy.load_state_dict(rounded | {"encoder.embed_tokens.weight": rounded["shared.weight"]})
    context = encode(WanClip(path), TEXTS[0])
    torch.testing.assert_close(context, expected(copy, vocabulary, TEXTS[0]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(context, expected(reference, vocabulary, TEXTS[0]), atol=1e-5)


@pytest.mark.parametrize("place", [".", "tokenizer", "../tokenizer"])
@pytest.mark.parametrize("chosen", ["", "model-00002-of-00002.safetensors"])
def test_a_folder_of_hugging_faces(tensors, vocabulary, tmp_path, place, chosen):
    whole = encode(WanClip(save(tensors, tmp_path / "whole.safetensors")), TEXTS[0])
    del tensors["spiece_model"]
    folder, names = tmp_path / "wan" / "text_encoder", sorted(tensors)
    for i, half in enumerate((names[::2], names[1::2]), 1):
        shard = folder / f"model-{i:05}-of-00002.safetensors"
        save({name: tensors[name] for name in half}, shard)
    (folder / place).mkdir(exist_ok=True)
    (folder / place / "spiece.model").write_bytes(vocabulary)
    assert torch.equal(encode(WanClip(folder / chosen), TEXTS[0]), whole)


def test_the_core_nodes_load_and_use_it(tensors, tmp_path):
    save(tensors, tmp_path / "models" / "text_encoders" / "umt5.safetensors")
    nodes = {node.GET_SCHEMA().node_id: node for node in CORE_NODES}
    with use_session(Session(tmp_path / "input")):
        assert nodes["CLIPLoader"].GET_SCHEMA().inputs[0].options == ["umt5.safetensors"]
        clip = nodes["CLIPLoader"].execute("umt5.safetensors", "wan")[0]
    ((context, _),) = nodes["CLIPTextEncode"].execute(TEXTS[1], clip)[0]
    assert torch.equal(context, encode(clip, TEXTS[1]))


def test_parentheses_are_text(tensors, tmp_path, caplog):
    clip = WanClip(save(tensors, tmp_path / "umt5.safetensors"))
    escaped = clip.tokenize(r"a \(red\) ball")
    assert not caplog.records
    assert torch.equal(clip.tokenize("a (red) ball"), escaped)
    assert "( and ) in a prompt are text" in caplog.text


def test_a_long_prompt_is_not_cut(tensors, tmp_path):
    clip = WanClip(save(tensors, tmp_path / "umt5.safetensors"))
    context = encode(clip, " ".join(TEXTS[:1] * 200))
    assert context.shape[1] > 512 and context[:, -1].any()


def without(*names):
    return lambda tensors: [tensors.pop(name) for name in names]


def foreign(tensors):
    tensors["blocks.0.attn.q.weight"] = tensors.pop(
        "encoder.block.0.layer.0.SelfAttention.q.weight"
    )


def misshapen(tensors):
    name = "encoder.block.1.layer.0.SelfAttention.q.weight"
    tensors[name] = tensors[name][:-1]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (foreign, r"is no umT5 in Hugging Face's names; need ComfyUI's umt5_xxl_"),
        (without("encoder.final_layer_norm.weight"), r"lacks 1 tensors: encoder\.final_layer_norm"),
        (without("spiece_model"), r"has no tokenizer in it and no spiece\.model beside it"),
        (misshapen, r"is no umT5: encoder\.block\.1\.layer\.0\.SelfAttention\.q\.weight is 31x32"),
    ],
)
def test_a_file_of_something_else_is_one_sentence(tensors, tmp_path, spoil, sentence):
    spoil(tensors)
    with pytest.raises(ValueError, match=sentence):
        WanClip(save(tensors, tmp_path / "file.safetensors"))


def test_a_missing_package_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install transformers sentencepiece\.$"):
        WanClip(tmp_path / "umt5.safetensors")
