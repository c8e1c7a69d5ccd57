"""GGUF files: read as the `gguf` package itself spells them out."""

import importlib.util
import os
from functools import partial
from pathlib import Path

import pytest
import torch

from patchdit.models import weight_sets
from patchdit.models.config import TransformerConfig
from patchdit.models.families import find_video_model, load_video_model, read_state
from patchdit.models.transformer import PatchDiT

gguf = pytest.importorskip("gguf")
np = pytest.importorskip("numpy")

CONFIG = TransformerConfig(256, 256, 2, 2, text_width=256)  # K-quants have blocks of 256
KINDS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"]


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    return PatchDiT(CONFIG).state_dict()


def write(path, whole, kind, architecture="wan", shapes=True):
    """Write a file with the blocks' matrices as `kind`; give what its tensors stand for."""
    kind = gguf.GGMLQuantizationType[kind]
    writer, means = gguf.GGUFWriter(path, architecture), {}
    random = np.random.default_rng(0)
    for name, tensor in whole.items():
        values = tensor.numpy()
        if values.ndim == 2 and name.startswith("blocks."):
            raw = gguf.quants.quantize(values, kind) if "K" not in kind.name else None
            if raw is None:  # the package writes none of these: any bytes are blocks, scales first
                values_of, width = gguf.GGML_QUANT_SIZES[kind]
                raw = random.integers(
                    0, 256, (values.shape[0], values.shape[1] // values_of, width)
                )
                raw = raw.astype(np.uint8)
                for at in (208,) if kind.name == "Q6_K" else (0, 2):  # where the half floats are
                    raw[..., at : at + 2] = np.float16(0.01).reshape(1).view(np.uint8)
                raw = raw.reshape(values.shape[0], -1)
            means[name] = gguf.quants.dequantize(raw, kind)
            writer.add_tensor(name, raw, raw_dtype=kind)
        elif values.ndim == 5:
            means[name] = values
            writer.add_tensor(name, values.reshape(values.shape[0], -1))
            if shapes:
                writer.add_array(f"comfy.gguf.orig_shape.{name}", list(values.shape))
        else:
            means[name] = values
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {name: torch.from_numpy(np.array(value)) for name, value in means.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_what_the_package_makes_of_them(whole, kind, tmp_path):
    path = tmp_path / "wan.gguf"
    means = write(path, whole, kind)
    found = find_video_model(path)
    assert found.label.endswith(f"GGUF {kind}, original names")
    assert (found.config.width, found.config.layers, found.family) == (256, 2, "wan2.1-t2v")
    for dtype in (torch.float32, torch.bfloat16):
        model = load_video_model(found, dtype).state_dict()
        for name, tensor in means.items():
            assert torch.isfinite(tensor).all() and (tensor.ndim < 2 or tensor.std() > 0)
            assert torch.equal(model[name], tensor.to(dtype).reshape(model[name].shape)), name
    if kind not in ("F16", "BF16"):
        assert found.default_dtype() == torch.float32
    if Path("/proc/self/maps").exists():
        assert str(path) not in Path("/proc/self/maps").read_text()
    os.replace(path, tmp_path / "moved.gguf")


def test_the_state_for_a_host_is_spelled_out(whole, tmp_path):
    path = tmp_path / "Wan2.2-T2V-A14B-LowNoise-Q8_0.gguf"
    means = write(path, whole, "Q8_0")
    found = find_video_model(path)
    assert (found.family, found.noise) == ("wan2.2-t2v", "low")
    state = dict(read_state(found, torch.float16))
    assert set(state) == set(whole)
    name = "blocks.1.ffn.2.weight"
    assert torch.equal(state[name], means[name].half())
    assert state["head.head.bias"].dtype == torch.float32  # plain types as stored


@pytest.mark.parametrize("architecture", ["", "wan", "pig"])
def test_what_a_file_calls_itself(whole, architecture, tmp_path):
    """Some converters write "pig" whatever the model; its tensors tell."""
    path = tmp_path / "model.gguf"
    write(path, whole, "Q8_0", architecture)
    assert find_video_model(path).family == "wan2.1-t2v"


def test_room_is_asked_for_what_blocks_become(whole, tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    write(path, whole, "Q4_0")
    found = find_video_model(path)
    needed = sum(tensor.nbytes for _, tensor in read_state(found))
    assert needed > 1.5 * found.bytes
    for read in (read_state, partial(load_video_model, dtype=torch.bfloat16)):
        monkeypatch.setattr(weight_sets, "free_memory", lambda: int(1.1 * found.bytes))
        with pytest.raises(ValueError, match=r"model\.gguf.* needs 0\.0 GB of memory"):
            read(found)
        monkeypatch.setattr(weight_sets, "free_memory", lambda: needed)
        read(found)


def test_what_does_not_fit_is_refused(whole, tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    write(path, whole, "Q8_0", architecture="ltxv")
    with pytest.raises(ValueError, match=r"model\.gguf is a ltxv GGUF file, which is not support"):
        find_video_model(path)
    write(path, whole, "Q8_0", shapes=False)
    with pytest.raises(ValueError, match=r"model\.gguf .*patch_embedding\.weight of \(256, 64\)"):
        find_video_model(path)
    write(path, whole, "Q8_0")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match=r"model\.gguf (is not a whole GGUF file|ends within)"):
        find_video_model(path)
    path.write_bytes(b"GGUF nonsense")
    with pytest.raises(ValueError, match=r"model\.gguf is not a whole GGUF file"):
        find_video_model(path)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gguf" else find_spec(name)
    )
    with pytest.raises(ValueError, match=r"model\.gguf is a GGUF file; .*pip install gguf"):
        find_video_model(path)
