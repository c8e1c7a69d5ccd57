"""LoadVideoLora without ComfyUI, on our own MODEL."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from patchdit.nodes import host
from patchdit.nodes.lora import LoadVideoLora
from patchdit.standalone.core_nodes import CORE_NODES
from patchdit.standalone.host import Session, use_session

WEIGHT = "blocks.1.ffn.0.weight"


@pytest.fixture
def factors(tmp_path):
    """Up and down of the one file in models/loras."""
    up, down = torch.ones(96, 2), torch.arange(96.0).reshape(2, 48)
    folder = tmp_path / "models" / "loras" / "wan"
    folder.mkdir(parents=True)
    names = (f"lora_unet_blocks_1_ffn_0.lora_{way}.weight" for way in ("up", "down"))
    save_file(dict(zip(names, (up, down), strict=True)), str(folder / "red.safetensors"))
    with use_session(Session(tmp_path / "input")):
        yield up, down


def test_the_model_stays_and_its_copy_changes(model, factors):
    up, down = factors
    before = host.fingerprint(model)
    patched = LoadVideoLora.execute(model, "wan/red.safetensors", 0.5)[0]
    expected = model.network.state_dict()[WEIGHT] + 0.5 * up @ down
    torch.testing.assert_close(patched.network.state_dict()[WEIGHT], expected)
    assert host.fingerprint(model) == before != host.fingerprint(patched)


def test_cores_own_loader_does_the_same(model, factors):
    loader = next(n for n in CORE_NODES if n.GET_SCHEMA().node_id == "LoraLoaderModelOnly")
    theirs = loader.execute(model, "wan/red.safetensors", -2.0)[0]
    ours = LoadVideoLora.execute(model, "wan/red.safetensors", -2.0)[0]
    assert host.fingerprint(theirs) == host.fingerprint(ours)


def test_a_file_that_is_not_there_is_told_with_those_that_are(model, factors):
    assert LoadVideoLora.GET_SCHEMA().inputs[1].options == ["wan/red.safetensors"]
    with pytest.raises(ValueError, match=r"no 'blue.*loras; found wan/red\.safetensors;"):
        LoadVideoLora.execute(model, "blue.safetensors", 1.0)


@pytest.fixture
def both(factors, tmp_path):
    """A file for both halves of Wan 2.2, whose differences are 1 and 2."""
    parts = {"transformer": 1.0, "transformer_2": 2.0}
    tensors = {f"{name}.blocks.1.ffn.0.diff": torch.full((96, 48), d) for name, d in parts.items()}
    save_file(tensors, str(tmp_path / "models" / "loras" / "both.safetensors"))


@pytest.mark.parametrize(
    ("model_is", "half", "added"),
    [("", "high", 1), ("", "low", 2), ("high", "auto", 1), ("low", "auto", 2), ("high", "low", 2)],
)
def test_a_file_for_both_halves_gives_the_models_own(model, both, model_is, half, added):
    patched = LoadVideoLora.execute(
        replace(model, noise_half=model_is), "both.safetensors", 1, half
    )
    change = patched[0].network.state_dict()[WEIGHT] - model.network.state_dict()[WEIGHT]
    torch.testing.assert_close(change, torch.full_like(change, added))


def test_a_file_for_both_halves_asks_which_the_model_is(model, both):
    with pytest.raises(
        ValueError, match=r"holds both halves .* setting half of Load Video LoRA\.$"
    ):
        LoadVideoLora.execute(model, "both.safetensors", 1.0)


def test_nothing_is_read_outside_the_folder(model, factors):
    with pytest.raises(ValueError, match=r"There is no '\.\./loras/wan/red\.safetensors'"):
        LoadVideoLora.execute(model, "../loras/wan/red.safetensors", 1.0)


def test_a_lora_of_another_model_is_one_sentence(model, factors, tmp_path):
    tensors = {"blocks.0.self_attn.q.diff": torch.ones(5120, 1)}
    save_file(tensors, str(tmp_path / "models" / "loras" / "big.safetensors"))
    with pytest.raises(
        ValueError, match=r"big.*for another model.*5120x1 instead of 48x48\).*is 48\.$"
    ):
        LoadVideoLora.execute(model, "big.safetensors", 1.0)
