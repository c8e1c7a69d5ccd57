"""Which model a file holds, names in both directions, and strict loading."""

import os
import pickle
from dataclasses import replace

import pytest
import torch

from patchdit.models.checkpoints import (
    config_metadata,
    find_transformer,
    from_diffusers,
    in_diffusers,
    load_strictly,
    load_transformer,
    read_config,
    read_metadata,
    save_checkpoint,
)
from patchdit.models.config import TRANSFORMER_PRESETS, TransformerConfig
from patchdit.models.transformer import PatchDiT

TINY = TransformerConfig(32, 48, 2, 2, in_channels=4, out_channels=4, text_width=12, text_length=5)
# Tensors and parameters of the published files.
PUBLISHED = {
    "wan2.1-1.3b": (825, 1_418_996_800),
    "wan2.1-14b": (1095, 14_288_491_584),
    "wan2.1-i2v-14b": (1303, 16_394_878_784),
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
    from diffusers import WanTransformer3DModel

    c = TRANSFORMER_PRESETS[preset]
    with torch.device("meta"):
        theirs = WanTransformer3DModel(
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


def write_shapes(path, tensors, metadata=None):
    """A file whose header lists these shapes; as many bytes of data as they need, unwritten."""
    import json
    import struct

    header, end = {"__metadata__": metadata or {}}, 0
    for name, tensor in tensors.items():
        size = tensor.numel()
        entry = {"dtype": "F8_E4M3", "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        header[name], end = entry, end + size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)  # sparse: takes no room


@pytest.mark.parametrize("preset", PUBLISHED)
@pytest.mark.parametrize("flavour", ["original", "comfyui", "diffusers"])
def test_published_files_are_told_by_their_header(shapes, preset, flavour, tmp_path):
    tensors = shapes[preset]
    if flavour == "comfyui":
        tensors = {f"model.diffusion_model.{name}": t for name, t in tensors.items()}
        tensors["vae.conv1.weight"] = torch.empty(1, device="meta")
    if flavour == "diffusers":
        tensors = {in_diffusers(name): t for name, t in tensors.items()}
    path = tmp_path / "wan.safetensors"
    write_shapes(path, tensors)
    found = find_transformer(path)
    assert found.config == TRANSFORMER_PRESETS[preset]
    assert found.name == preset.replace("wan2.2-14b", "wan2.1-14b")  # the same shapes
    assert set(found.names.values()) == set(shapes[preset])
    assert set(found.names) == set(tensors) - {"vae.conv1.weight"}


@pytest.mark.parametrize(
    "extra, family",
    [
        ("vace_patch_embedding.weight", "Wan VACE"),
        ("control_adapter.conv.weight", "camera control"),
        ("blocks.0.self_attn.q.scale_weight", "fp8-scaled"),
        ("blocks.0.self_attn.q.comfy_quant", "quantised"),
        ("adaln_single.emb.timestep_embedder.linear_1.weight", "LTX-Video"),
        ("txt_in.individual_token_refiner.blocks.0.norm1.weight", "HunyuanVideo"),
        ("diffusion_model.blocks.0.self_attn.q.lora_A.weight", "LoRA"),
    ],
)
def test_other_families_are_refused_by_name(shapes, extra, family, tmp_path):
    path = tmp_path / "other.safetensors"
    write_shapes(path, {**shapes["wan2.1-1.3b"], extra: torch.empty(1, device="meta")})
    with pytest.raises(ValueError, match=rf"other.safetensors is a .*{family}.* not supported"):
        find_transformer(path)


def test_unheard_of_sizes_and_foreign_files_are_refused(shapes, tmp_path):
    path = tmp_path / "other.safetensors"
    sized = PatchDiT(replace(TRANSFORMER_PRESETS["wan2.1-1.3b"], layers=7), device="meta")
    write_shapes(path, sized.state_dict())
    with pytest.raises(ValueError, match="width 1536, 7 layers and 16 to 16 channels"):
        find_transformer(path)
    few = {k: v for k, v in shapes["wan2.1-1.3b"].items() if not k.startswith("patch_")}
    write_shapes(path, few)
    with pytest.raises(ValueError, match=r"lacks 1 tensors: patch_embedding\.weight"):
        find_transformer(path)
    save_checkpoint(path, {"something": torch.ones(2)})
    with pytest.raises(ValueError, match="not a Wan transformer or one of ours"):
        find_transformer(path)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_our_files_carry_their_config(dtype, tmp_path):
    path = tmp_path / "ours.safetensors"
    model = PatchDiT(replace(TINY, known_attends_known=True))
    metadata = {**config_metadata(transformer=model.config), "licence": "MIT"}
    save_checkpoint(path, model.state_dict(), metadata)
    assert read_metadata(path)["licence"] == "MIT"
    assert TransformerConfig(**read_config(path)["transformer"]) == model.config
    loaded = load_transformer(path, dtype=dtype)
    assert loaded.config == model.config and not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.to(dtype or tensor.dtype))


@torch.no_grad()
def test_a_diffusers_file_of_ours_loads_by_its_own_names(tmp_path, monkeypatch):
    monkeypatch.setitem(TRANSFORMER_PRESETS, "tiny", replace(TINY, width=256, text_length=512))
    model = PatchDiT(TRANSFORMER_PRESETS["tiny"])
    path = tmp_path / "theirs.safetensors"
    save_checkpoint(path, {in_diffusers(k): v for k, v in model.state_dict().items()})
    loaded = load_transformer(path)
    assert find_transformer(path).name == "tiny"
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


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
        find_transformer(path)


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
        find_transformer(path)


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
            find_transformer(path)
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
            find_transformer(path)


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
