"""Which video model a file holds, by its header alone, in every public layout; loading it."""

import json
import os
import struct
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch

from patchdit.models import weight_sets
from patchdit.models.checkpoints import config_metadata, in_diffusers, save_checkpoint
from patchdit.models.config import TRANSFORMER_PRESETS, TransformerConfig
from patchdit.models.families import find_video_model, load_video_model, read_state
from patchdit.models.transformer import PatchDiT

TINY = TransformerConfig(32, 48, 2, 2, in_channels=4, out_channels=4, text_width=12, text_length=5)
SMALL = TransformerConfig(128, 64, 1, 2, text_width=24)  # Wan's layout, of no published size
BYTES = {"F32": 4, "BF16": 2, "F8_E4M3": 1}
FAMILIES = {
    "wan2.1-1.3b": ("wan2.1-t2v", "Wan 2.1 T2V 1.3B"),
    "wan2.1-14b": ("wan2.1-t2v", "Wan 2.1 T2V 14B"),
    "wan2.1-i2v-14b": ("wan2.1-i2v", "Wan 2.1 I2V 14B"),
    "wan2.1-flf2v-14b": ("wan2.1-flf2v", "Wan 2.1 FLF2V 14B"),
    "wan2.1-fun-inp-1.3b": ("wan2.1-fun-inp", "Wan 2.1 Fun-InP 1.3B"),
    "wan2.1-vace-14b": ("wan2.1-vace", "Wan VACE 14B"),
    "wan2.2-i2v-14b": ("wan2.2-i2v", "Wan 2.2 I2V 14B"),
    "wan2.2-ti2v-5b": ("wan2.2-ti2v", "Wan 2.2 TI2V 5B"),
}


@pytest.fixture(scope="module")
def shapes():
    """Preset -> its meta tensors."""
    return {
        name: PatchDiT(TRANSFORMER_PRESETS[name], device="meta").state_dict() for name in FAMILIES
    }


@pytest.fixture(scope="module")
def small():
    """A network of Wan's layout with random weights."""
    torch.manual_seed(0)
    return PatchDiT(SMALL).state_dict()


def write_shapes(path, tensors, kind="F8_E4M3", metadata=None):
    """A file whose header lists these shapes; as many bytes of data as they need, unwritten."""
    header, end = {"__metadata__": metadata or {}}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)  # sparse: takes no room


def meta(*shape):
    return torch.empty(*shape or (1,), device="meta")


def assert_loads(path, tensors, dtype=None):
    """The file holds exactly these weights."""
    model = load_video_model(find_video_model(path), dtype)
    assert not model.training and set(model.state_dict()) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(model.state_dict()[name], tensor.to(dtype or tensor.dtype)), name


@pytest.mark.parametrize("preset", FAMILIES)
@pytest.mark.parametrize("flavour", ["original", "comfyui", "diffusers"])
def test_published_models_are_told_by_their_header(shapes, preset, flavour, tmp_path):
    tensors = shapes[preset]
    if flavour == "comfyui":
        tensors = {f"model.diffusion_model.{name}": t for name, t in tensors.items()}
        tensors["vae.conv1.weight"] = tensors["text_encoders.umt5xxl.shared.weight"] = meta()
    if flavour == "diffusers":
        tensors = {in_diffusers(name): t for name, t in tensors.items()}
    path = tmp_path / "model.safetensors"
    write_shapes(path, tensors, "BF16")
    found = find_video_model(path)
    assert found.config == TRANSFORMER_PRESETS[preset] and found.preset == preset
    family, label = FAMILIES[preset]
    naming = {"comfyui": "ComfyUI"}.get(flavour, flavour)
    assert (found.family, found.noise) == (family, "")
    assert found.label == f"{label}, bf16, {naming} names"
    assert set(found.names) == set(shapes[preset])
    beside = {"vae.conv1.weight", "text_encoders.umt5xxl.shared.weight"}
    assert {name for _, name in found.names.values()} == set(tensors) - beside
    assert (
        found.bytes == 2 * found.parameters == 2 * sum(t.numel() for t in shapes[preset].values())
    )


@pytest.mark.parametrize(
    "preset, name, family, noise",
    [
        ("wan2.1-14b", "wan2.2_t2v_high_noise_14B_fp8_scaled", "wan2.2-t2v", "high"),
        ("wan2.1-14b", "Wan2_2-T2V-A14B-LOW_fp8_e4m3fn_scaled_KJ", "wan2.2-t2v", "low"),
        ("wan2.1-14b", "high_noise_model/model", "wan2.2-t2v", "high"),
        ("wan2.1-14b", "wan2.1_t2v_14B_low_vram", "wan2.1-t2v", ""),
        ("wan2.1-14b", "wan2.2_t2v_slow_mix", "wan2.1-t2v", ""),
        ("wan2.2-i2v-14b", "Wan2.2-I2V-A14B-HighNoise", "wan2.2-i2v", "high"),
        ("wan2.1-i2v-14b", "Wan2.1-Fun-14B-InP", "wan2.1-fun-inp", ""),
        ("wan2.2-ti2v-5b", "wan2.2_ti2v_5B_low", "wan2.2-ti2v", ""),
    ],
)
def test_what_shapes_cannot_tell_is_in_the_name(shapes, preset, name, family, noise, tmp_path):
    path = tmp_path / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_shapes(path, shapes[preset])
    found = find_video_model(path)
    assert (found.family, found.noise) == (family, noise)
    assert ("half" in found.label) == bool(noise)


def test_the_two_folders_of_diffusers_are_the_two_halves(shapes, tmp_path):
    for folder in ("transformer", "transformer_2"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "diffusion_pytorch_model.safetensors"
        write_shapes(path, {in_diffusers(k): t for k, t in shapes["wan2.1-14b"].items()})
    for folder, noise in (("transformer", "high"), ("transformer_2", "low"), ("", "high")):
        assert find_video_model(tmp_path / folder).noise == noise


@pytest.mark.parametrize("dtype", [None, torch.float16])
@pytest.mark.parametrize("flavour", ["original", "diffusers", "comfyui"])
def test_any_size_of_wans_layout_loads(small, flavour, dtype, tmp_path):
    path, names = tmp_path / "model.safetensors", {name: name for name in small}
    if flavour == "diffusers":
        names = {name: in_diffusers(name) for name in small}
    if flavour == "comfyui":
        names = {name: f"model.diffusion_model.{name}" for name in small}
    save_checkpoint(path, {names[name]: tensor for name, tensor in small.items()})
    found = find_video_model(path)
    assert (found.preset, found.config) == ("", replace(SMALL, text_length=512))
    assert found.label.startswith("Wan 2.1 T2V 0.5M, fp32") or "0.4M" in found.label
    assert_loads(path, small, dtype)
    os.replace(path, tmp_path / "moved")  # it is not open
    save_checkpoint(path, {"a": torch.ones(1)})


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_our_own_files_say_what_they_are(dtype, tmp_path):
    path, model = tmp_path / "ours.safetensors", PatchDiT(replace(TINY, known_attends_known=True))
    save_checkpoint(path, model.state_dict(), config_metadata(transformer=model.config))
    found = find_video_model(path)
    assert (found.family, found.config) == ("patchdit", model.config)
    assert "our own names" in found.label
    assert_loads(path, model.state_dict(), dtype)


def test_one_type_for_all_weights_of_a_mixed_file(small, tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, {k: t if t.ndim < 2 else t.bfloat16() for k, t in small.items()})
    model = load_video_model(find_video_model(path))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def shard(folder, tensors, count=3, index=True):
    """Write a set as the hub holds it: shards and, mostly, an index."""
    names, files = list(tensors), {}
    for i in range(count):
        file = f"diffusion_pytorch_model-{i + 1:05}-of-{count:05}.safetensors"
        save_checkpoint(folder / file, {name: tensors[name] for name in names[i::count]})
        files |= dict.fromkeys(names[i::count], file)
    if index:
        text = json.dumps({"metadata": {}, "weight_map": files})
        (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(text)


@pytest.mark.parametrize("index", [True, False])
def test_a_set_of_shards_is_one_model_whatever_is_chosen(small, index, tmp_path):
    (tmp_path / "transformer").mkdir()
    shard(tmp_path / "transformer", {in_diffusers(k): t for k, t in small.items()}, index=index)
    chosen = [*(tmp_path / "transformer").iterdir(), tmp_path / "transformer", tmp_path]
    assert len(chosen) == 5 + index
    for path in chosen:
        assert find_video_model(path).label.endswith("diffusers names, 3 shards")
        assert_loads(path, small)
    for number in (1, 3):
        name = f"diffusion_pytorch_model-{number:05}-of-00003.safetensors"
        (tmp_path / "transformer" / name).unlink()
    missing = r"lacks 2 of 3 shards: \S+-00001-of-00003\.safetensors, \S+-00003-of-00003"
    for path in chosen[2:]:
        if (path.exists() and "00002" in path.name) or (path.is_dir() and index):
            with pytest.raises(ValueError, match=missing):
                find_video_model(path)


@pytest.mark.parametrize("wrapper", [None, "generator", "generator_ema", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "model.", "model._fsdp_wrapped_module."])
def test_distilled_weights_in_pt_files(small, wrapper, prefix, tmp_path):
    path = tmp_path / "self_forcing_dmd.pt"
    inside = OrderedDict((prefix + name, tensor) for name, tensor in small.items())
    if wrapper == "generator_ema":
        held = {"generator": {"model.other": torch.ones(1)}, wrapper: inside, "step": 3}
    else:
        held = {wrapper: inside} if wrapper else inside
    torch.save(held, path)
    assert_loads(path, small)
    os.replace(path, tmp_path / "moved")


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pt_files_are_not_run(small, tmp_path):
    path, sprung = tmp_path / "model.pt", tmp_path / "sprung"
    for held, message in (
        ({"a": Trap(sprung)}, "holds more than weights"),
        ([1, 2], "holds a list; need a dict of tensors"),
        ({"step": 3}, "holds no tensors"),
    ):
        torch.save(held, path)
        with pytest.raises(ValueError, match=rf"model\.pt {message}"):
            find_video_model(path)
    torch.save(small, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"model\.pt is not a whole \.pt file"):
        find_video_model(path)
    torch.save(small, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"model\.pt is not a whole \.pt file"):
        find_video_model(path)
    assert not sprung.exists()


@pytest.mark.parametrize(
    "extra, family",
    [
        ("ref_conv.weight", "Wan Fun with a reference image"),
        ("control_adapter.conv.weight", "camera control"),
        ("face_adapter.fuser_blocks.0.k_norm.weight", "Wan Animate"),
        ("casual_audio_encoder.encoder.final_linear.weight", "Wan S2V"),
        ("audio_proj.audio_proj_glob_1.layer.bias", "HuMo"),
        ("fps_embedding.weight", "SkyReels"),
    ],
)
def test_other_wan_models_are_refused_by_name(shapes, extra, family, tmp_path):
    path = tmp_path / "other.safetensors"
    write_shapes(path, {**shapes["wan2.1-1.3b"], extra: meta()})
    with pytest.raises(ValueError, match=rf"other.safetensors is a .*{family}.* not supported"):
        find_video_model(path)


@pytest.mark.parametrize(
    "name, family",
    [
        ("model.diffusion_model.adaln_single.emb.timestep_embedder.linear_1.weight", "LTX-Video"),
        ("model.diffusion_model.audio_adaln_single.linear.weight", "LTX-2"),
        ("txt_in.individual_token_refiner.blocks.0.norm1.weight", "HunyuanVideo"),
        ("t5_yproj.weight", "Mochi"),
        ("transformer_blocks.0.norm1_context.linear_1.weight", "Mochi"),
        ("blocks.0.norm1.linear.weight", "CogVideoX"),
        ("double_blocks.0.img_attn.norm.key_norm.scale", "Flux"),
        ("model.diffusion_model.input_blocks.0.0.weight", "Stable Diffusion"),
        ("diffusion_model.blocks.0.self_attn.q.lora_A.weight", "LoRA"),
        ("diffusion_model.blocks.0.self_attn.q.lora_down.weight", "LoRA"),
        ("decoder.middle.0.residual.0.gamma", "Wan autoencoder"),
        ("decoder.mid.block_1.conv1.weight", "Stable Diffusion or Flux autoencoder"),
        ("encoder.block.0.layer.0.SelfAttention.k.weight", "T5 text encoder"),
        ("vision_model.encoder.layers.0.mlp.fc1.weight", "CLIP vision encoder"),
    ],
)
def test_other_files_are_refused_by_name(name, family, tmp_path):
    path, prefix = tmp_path / "other.safetensors", name.partition(".")[0]
    write_shapes(path, {name: meta(), **{f"{prefix}.fill.{i}": meta() for i in range(9)}})
    with pytest.raises(ValueError, match=rf"other.safetensors is a {family}.* not supported"):
        find_video_model(path)


def test_a_vace_module_without_its_base_is_refused(shapes, tmp_path):
    path = tmp_path / "module.safetensors"
    only = {k: t for k, t in shapes["wan2.1-vace-14b"].items() if k.startswith("vace_")}
    write_shapes(path, only)
    with pytest.raises(ValueError, match=r"only the VACE module; choose the full VACE file"):
        find_video_model(path)


@pytest.mark.parametrize(
    "config, message",
    [
        (replace(SMALL, in_channels=48), "Fun-Control model that takes 48 channels and gives 16"),
        (replace(SMALL, in_channels=100, out_channels=48), "takes 100 channels and gives 48"),
        (replace(SMALL, width=192, heads=1), "is 192 wide; Wan models are a multiple of 128"),
    ],
)
def test_other_layouts_are_refused_with_their_numbers(config, message, tmp_path):
    path = tmp_path / "other.safetensors"
    write_shapes(path, PatchDiT(config, device="meta").state_dict())
    with pytest.raises(ValueError, match=message):
        find_video_model(path)


def test_missing_extra_and_misshapen_tensors_are_named_before_loading(small, tmp_path):
    path = tmp_path / "model.safetensors"
    few = [name for name in small if "cross_attn" in name]
    for tensors, message in (
        ({k: t for k, t in small.items() if k not in few}, f"lacks {len(few)} tensors: "),
        ({**small, "spare.weight": torch.ones(1)}, r"unknown 1 tensors: spare\.weight\."),
        ({**small, "head.head.bias": torch.ones(3)}, r"head\.head\.bias \(3,\) instead of \(64,\)"),
        ({k: t for k, t in small.items() if "patch" not in k}, r"tensors: patch_embedding\.weight"),
        ({"something": torch.ones(2)}, "not a Wan transformer or one of ours"),
    ):
        save_checkpoint(path, tensors)
        with pytest.raises(ValueError, match=rf"^model\.safetensors .*{message}"):
            find_video_model(path)
    save_checkpoint(path, {k: t for k, t in small.items() if k not in few})
    with pytest.raises(ValueError) as error:
        find_video_model(path)
    assert f": {', '.join(few[:5])}, ...." in str(error.value) and few[5] not in str(error.value)


def test_our_own_autoencoder_is_no_video_model(tmp_path):
    from patchdit.models.blockworld import FOLDER, NAMES

    assert find_video_model(FOLDER / NAMES["transformer"]).family == "patchdit"
    with pytest.raises(ValueError, match=r"is our own vae; need a transformer file"):
        find_video_model(FOLDER / NAMES["vae"])


def test_more_than_the_machine_holds_is_refused_before_reading(small, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, small)
    found = find_video_model(path)
    path.unlink()  # nothing can be read
    monkeypatch.setattr(weight_sets, "free_memory", lambda: found.bytes - 1)
    for read in (load_video_model, read_state):
        with pytest.raises(ValueError, match=r"needs 0\.0 GB of memory and 0\.0 GB are free"):
            read(found)
    save_checkpoint(path, small)
    monkeypatch.setattr(weight_sets, "free_memory", lambda: None)  # not known: try
    assert_loads(path, small)
    monkeypatch.undo()
    assert weight_sets.free_memory() is None or weight_sets.free_memory() > 0


def test_truncated_files_are_named(small, tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, small)
    found, whole = find_video_model(path), path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file"):
        find_video_model(path)
    with pytest.raises(ValueError, match=r"model\.safetensors ends within .*download"):
        load_video_model(found)
    with pytest.raises(ValueError, match=r"There is no file .*absent\.gguf"):
        find_video_model(tmp_path / "absent.gguf")
