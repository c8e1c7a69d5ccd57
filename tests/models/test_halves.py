"""Files for both halves of Wan 2.2, as diffusers names them: one half is read at a time."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from patchdit.models.config import TransformerConfig
from patchdit.models.families import find_video_model, load_video_model
from patchdit.models.lora import merge, read_lora, with_lora
from patchdit.models.transformer import PatchDiT

CONFIG = TransformerConfig(128, 64, 1, 2, in_channels=36)
PREFIXES = {"high": "transformer.", "low": "transformer_2."}
QUERY, FFN = "blocks.0.self_attn.q", "blocks.1.ffn.2"


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network_of(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PatchDiT(CONFIG).eval()


@pytest.fixture(scope="module")
def networks():
    return {half: network_of(seed) for seed, half in enumerate(PREFIXES)}


@pytest.fixture(scope="module")
def both(networks, tmp_path_factory):
    """One file of both halves."""
    path = tmp_path_factory.mktemp("halves") / "wan2.2.safetensors"
    tensors = {
        PREFIXES[half] + name: weight
        for half, network in networks.items()
        for name, weight in network.state_dict().items()
    }
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("half", PREFIXES)
def test_the_half_that_is_asked_for_is_found_and_loaded_alone(both, networks, half):
    found = find_video_model(both, half)
    assert (found.family, found.noise) == ("wan2.2-i2v", half)
    assert f"{half}-noise half" in found.label
    weights = networks[half].state_dict()
    assert found.tensors.keys() == weights.keys()
    assert found.parameters == sum(weight.numel() for weight in weights.values())
    loaded = load_video_model(found).state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_a_file_of_both_asks_for_one(both):
    with pytest.raises(
        ValueError,
        match=r"^wan2\.2\.safetensors holds both .* high noise .* low: .* Load Video Model\.$",
    ):
        find_video_model(both)


@pytest.mark.parametrize(
    ("prefix", "asked", "noise"),
    [
        ("", "low", "low"),
        ("", "", "high"),
        ("transformer.", "", "high"),
        ("transformer_2.", "", "low"),
        ("transformer_2.", "low", "low"),
    ],
)
def test_a_file_of_one_half_is_known_by_what_is_asked_then_its_tensors_then_its_name(
    networks, tmp_path, prefix, asked, noise
):
    path = tmp_path / "wan2.2_high_noise.safetensors"
    save_file({prefix + name: w for name, w in networks["high"].state_dict().items()}, path)
    found = find_video_model(path, asked)
    assert found.noise == noise and found.tensors.keys() == networks["high"].state_dict().keys()


def factors(prefix, module, rank=4):
    rows, columns = (128, 128) if module == QUERY else (128, 64)
    seed = len(prefix)
    return {
        f"{prefix}{module}.lora_B.weight": random(rows, rank, seed=seed),
        f"{prefix}{module}.lora_A.weight": random(rank, columns, seed=seed + 1),
    }


def test_a_lora_for_both_halves_gives_each_its_own(networks, tmp_path):
    path, network = tmp_path / "style.safetensors", networks["low"]
    parts = {half: factors(prefix, QUERY) for half, prefix in PREFIXES.items()}
    parts["low"] |= factors(PREFIXES["low"], FFN)
    save_file(parts["high"] | parts["low"], path)
    before = network.state_dict()
    for half, prefix in PREFIXES.items():
        after = with_lora(network, path, 0.5, half).state_dict()
        held = parts[half]
        product = held[f"{prefix}{QUERY}.lora_B.weight"] @ held[f"{prefix}{QUERY}.lora_A.weight"]
        weight = before[f"{QUERY}.weight"] + 0.5 * product
        torch.testing.assert_close(after[f"{QUERY}.weight"], weight)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert (f"{FFN}.weight" in changed) == (half == "low") and len(changed) == len(held) / 2
    with pytest.raises(ValueError, match=r"^style\.safet.* half of Load Video LoRA\.$"):
        with_lora(network, path)


@pytest.mark.parametrize("prefix", PREFIXES.values())
@pytest.mark.parametrize("half", ["", *PREFIXES])
def test_a_lora_of_one_half_is_read_whatever_is_asked(networks, tmp_path, prefix, half):
    path = tmp_path / "style.safetensors"
    save_file(factors(prefix, QUERY), path)
    shapes = {name: tuple(w.shape) for name, w in networks["low"].state_dict().items()}
    assert list(read_lora(path, shapes, half=half)) == [f"{QUERY}.weight"]


@pytest.mark.parametrize("alpha", [None, 4.0, 10.0])
def test_the_bias_of_an_up_is_scaled_with_the_product(networks, tmp_path, alpha):
    """As peft computes it: base(x) + alpha / rank * lora_B(lora_A(x)), lora_B with its bias."""
    path, network, bias = tmp_path / "style.safetensors", networks["high"], random(128, seed=9)
    held = factors("transformer.", FFN) | {f"transformer.{FFN}.lora_B.bias": bias}
    if alpha is not None:
        held[f"transformer.{FFN}.alpha"] = torch.tensor(alpha)
    save_file(held, path)
    down = torch.nn.Linear(64, 4, bias=False)
    up, base = torch.nn.Linear(4, 128), network.get_submodule(FFN)
    down.weight.data = held[f"transformer.{FFN}.lora_A.weight"]
    up.weight.data, up.bias.data = held[f"transformer.{FFN}.lora_B.weight"], bias
    x, scale = random(5, 64, seed=3), (alpha or 4.0) / 4
    with torch.no_grad():
        expected = base(x) + 0.5 * scale * up(down(x))
        made = with_lora(network, path, 0.5).get_submodule(FFN)(x)
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


def test_a_bias_alone_or_a_difference_beside_a_product_is_not_scaled(networks, tmp_path):
    path, network, bias = tmp_path / "style.safetensors", networks["high"], random(128, seed=9)
    weights, name = network.state_dict(), f"{FFN}.bias"
    shapes = {n: tuple(w.shape) for n, w in weights.items()}
    scaled = factors("", FFN) | {f"{FFN}.alpha": torch.tensor(10.0)}
    for held in ({f"{FFN}.lora_B.bias": bias}, scaled | {f"{FFN}.diff_b": bias}):
        save_file(held, path)
        merged = merge(weights, read_lora(path, shapes), 0.5)
        assert torch.equal(merged[name], weights[name] + 0.5 * bias)
