"""Names in both directions, strict loading, our own files and what is no safetensors file."""

import os
import pickle
from dataclasses import replace

import pytest
import torch

from patchdit.models.checkpoints import (
    config_metadata,
    from_diffusers,
    in_diffusers,
    load_strictly,
    read_config,
    read_metadata,
    read_part,
    save_checkpoint,
)
from patchdit.models.config import TRANSFORMER_PRESETS, TransformerConfig, VAEConfig
from patchdit.models.tensor_files import read_header, read_tensors
from patchdit.models.transformer import PatchDiT

TINY = TransformerConfig(32, 48, 2, 2, in_channels=4, out_channels=4, text_width=12, text_length=5)
# Tensors and parameters of the published files.
PUBLISHED = {
    "wan2.1-1.3b": (825, 1_418_996_800),
    "wan2.1-14b": (1095, 14_288_491_584),
    "wan2.1-i2v-14b": (1303, 16_394_878_784),
    "wan2.1-vace-1.3b": (1264, 2_153_972_032),
    "wan2.1-flf2v-14b": (1304, 16_395_536_704),
    "wan2.2-14b": (1095, 14_288_491_584),
    "wan2.2-i2v-14b": (1095, 14_288_901_184),
    "wan2.2-ti2v-5b": (825, 4_999_787_712),
}


@pytest.fixture(scope="module")
def shapes():
    """Name -> meta tensor of every published preset."""
    return {
        name: PatchDiT(TRANSFORMER_PRESETS[name], device="meta").state_dict() for name in PUBLISHED
    }


@pytest.mark.parametrize("preset", PUBLISHED)
def test_presets_have_the_published_tensors_and_parameters(shapes, preset):
    tensors = shapes[preset]
    assert (len(tensors), sum(t.numel() for t in tensors.values())) == PUBLISHED[preset]


@pytest.mark.parametrize("preset", PUBLISHED)
def test_names_map_to_diffusers_and_back(shapes, preset):
    from diffusers import WanTransformer3DModel, WanVACETransformer3DModel

    c = TRANSFORMER_PRESETS[preset]
    kind, control = WanTransformer3DModel, {}
    if c.vace_blocks:
        layers = list(range(0, c.layers, c.layers // c.vace_blocks))
        kind, control = WanVACETransformer3DModel, {"vace_layers": layers}
    with torch.device("meta"):
        theirs = kind(
            **control,
            num_attention_heads=c.heads,
            attention_head_dim=c.head_width,
            in_channels=c.in_channels,
            out_channels=c.out_channels,
            ffn_dim=c.mlp_width,
            num_layers=c.layers,
            image_dim=c.image_width or None,
            added_kv_proj_dim=c.width if c.image_width else None,
            pos_embed_seq_len=c.image_positions or None,
        ).state_dict()
    ours = {in_diffusers(name): tensor.shape for name, tensor in shapes[preset].items()}
    assert ours == {name: tensor.shape for name, tensor in theirs.items()}
    assert {from_diffusers(name) for name in theirs} == set(shapes[preset])


def test_the_converter_of_diffusers_agrees(shapes):
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    names = {name: name for name in shapes["wan2.1-i2v-14b"]}
    assert convert_wan_transformer_to_diffusers(dict(names)) == {
        in_diffusers(name): name for name in names
    }


def test_unknown_names_are_refused():
    for rename in (in_diffusers, from_diffusers):
        with pytest.raises(ValueError, match=r"blocks.0.surprise.weight is no tensor"):
            rename("blocks.0.surprise.weight")


def test_our_files_carry_their_config(tmp_path):
    path = tmp_path / "ours.safetensors"
    config = replace(TINY, known_attends_known=True)
    metadata = {**config_metadata(transformer=config), "licence": "MIT"}
    save_checkpoint(path, {"a": torch.ones(1)}, metadata)
    assert read_metadata(path)["licence"] == "MIT"
    assert TransformerConfig(**read_config(path)["transformer"]) == config
    assert read_part(path, "transformer", TransformerConfig) == config
    assert read_part(path, "vae", VAEConfig) is None


def test_a_model_in_memory_keeps_its_own_type_and_room():
    model = PatchDiT(TINY)
    tensors = {name: tensor.bfloat16() for name, tensor in PatchDiT(TINY).state_dict().items()}
    load_strictly(model, tensors)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, tensors[name].float())


def test_loading_names_the_first_five_of_what_does_not_fit():
    model = PatchDiT(TINY)
    whole = model.state_dict()
    few = {k: v for k, v in whole.items() if "self_attn" not in k}
    first = [k for k in whole if "self_attn" in k][:5]
    with pytest.raises(ValueError) as error:
        load_strictly(model, few, "folder/half.safetensors")
    assert str(error.value) == (f"half.safetensors lacks 20 tensors: {', '.join(first)}, ....")
    with pytest.raises(ValueError, match=r"unknown 1 tensors: spare\."):
        load_strictly(model, {**whole, "spare": torch.ones(1)})
    wrong = {**whole, "head.head.bias": torch.ones(3)}
    with pytest.raises(ValueError, match=r"head.head.bias \(3,\) instead of \(16,\)"):
        load_strictly(model, wrong)


@pytest.mark.parametrize("metadata", ["{", "[1]"])
def test_unreadable_configs_are_refused(metadata, tmp_path):
    path = tmp_path / "ours.safetensors"
    save_checkpoint(path, {"a": torch.ones(1)}, {"patchdit.config": metadata})
    with pytest.raises(ValueError, match=r"unreadable patchdit\.config"):
        read_config(path)


@pytest.mark.parametrize(
    "config, why",
    [
        ('{"width": 32, "wings": 2}', "wings"),
        ('{"width": 32, "mlp_width": 48, "heads": 0, "layers": 2}', "32 over 0 heads"),
        ('{"width": 32, "mlp_width": 48, "heads": 5, "layers": 2}', "32 over 5 heads"),
        ("7", "mapping"),
    ],
)
def test_configs_that_are_not_ours_are_refused(config, why, tmp_path):
    path = tmp_path / "ours.safetensors"
    save_checkpoint(path, {"a": torch.ones(1)}, {"patchdit.config": f'{{"transformer": {config}}}'})
    with pytest.raises(
        ValueError, match=rf"ours.safetensors has a .*config we do not know .*{why}"
    ):
        read_part(path, "transformer", TransformerConfig)


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_only_whole_safetensors_files_are_opened(tmp_path):
    path, sprung = tmp_path / "model.safetensors", tmp_path / "sprung"
    save_checkpoint(path, {"a": torch.ones(100)})
    whole = path.read_bytes()
    torch.save({"a": torch.ones(2)}, tmp_path / "zip.pt")
    for content, message in (
        (pickle.dumps(Trap(sprung)), "is a pickle, which is never opened"),
        ((tmp_path / "zip.pt").read_bytes(), "is a pickle, which is never opened"),
        (whole[:-7], "not a whole safetensors file"),
        (whole[:5], "not a whole safetensors file"),
        (b"", "not a whole safetensors file"),
        (b"GGUF" + whole, "is a GGUF file"),
        (b"<html>not found</html>", "not a whole safetensors file"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_header(path)
    assert not sprung.exists()


@pytest.mark.parametrize("start", [b"\x80\x02", b"\x80\x04", b"PK"])
def test_a_header_as_long_as_a_pickles_first_bytes_is_no_pickle(start, tmp_path):
    path = tmp_path / "model.safetensors"
    for padding in range(int.from_bytes(start, "little") - 200, 20_000, 8):
        save_checkpoint(path, {"a": torch.ones(1)}, {"facts": "." * padding})
        if path.read_bytes().startswith(start):
            break
    assert path.read_bytes().startswith(start)
    assert read_metadata(path)["facts"] == "." * padding


def test_what_is_no_file_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(ValueError, match=f"no file {path}"):
            read_header(path)


def test_saved_files_can_be_read_by_others(tmp_path):
    save_checkpoint(tmp_path / "model.safetensors", {"a": torch.ones(3)})
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_full_disk_leaves_what_was_there(tmp_path, full_disk):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, {"a": torch.ones(3)})
    before = path.read_bytes()
    too_large = pytest.raises(ValueError, match=r"Could not write .*too large.* has room")
    with full_disk(), too_large:
        save_checkpoint(path, {"a": torch.ones(3000)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("place", ["absent/model", "file/model", "folder"])
def test_a_save_that_cannot_be_leaves_nothing(place, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()  # in the way: fails once all is written
    with pytest.raises(ValueError, match=rf"Could not write .*{place}"):
        save_checkpoint(tmp_path / place, {"a": torch.ones(3)})
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "folder"}


def test_what_is_read_does_not_keep_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {"a": torch.randn(3, 5), "b": torch.arange(4), "c": torch.randn(0, 2).half()}
    save_checkpoint(path, tensors)
    held = read_tensors(path)
    assert list(read_tensors(path, ["b"])) == ["b"]
    path.write_bytes(b"\0" * path.stat().st_size)  # a mapping would show this
    for name, tensor in tensors.items():
        assert held[name].dtype == tensor.dtype and torch.equal(held[name], tensor)
