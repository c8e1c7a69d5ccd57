"""LoRA files in every public spelling, the arithmetic of merging, and files that do not fit."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from patchdit.models.checkpoints import in_diffusers
from patchdit.models.config import TransformerConfig
from patchdit.models.lora import merge, read_lora, with_lora
from patchdit.models.transformer import PatchDiT

CONFIG = TransformerConfig(24, 40, 2, 2, text_width=10, text_length=4)
QUERY, FFN = "blocks.1.self_attn.q", "blocks.0.ffn.2"
CONV = "patch_embedding"
RANK = 3


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PatchDiT(CONFIG).eval()


def shapes(network):
    return {name: tuple(weight.shape) for name, weight in network.state_dict().items()}


def factors(network, module, rank=RANK):
    weight = network.get_parameter(f"{module}.weight")
    kernel = (1,) * (weight.ndim - 2)
    up, down = random(len(weight), rank, *kernel), random(rank, *weight.shape[1:], seed=1)
    return up, down


@pytest.fixture
def file(tmp_path):
    def write(tensors):
        path = tmp_path / "style.safetensors"
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, str(path))
        return path

    return write


def kohya(module):
    return "lora_unet_" + module.replace(".", "_")


SPELLINGS = {
    "ComfyUI": lambda m: (
        f"diffusion_model.{m}.lora_B.weight",
        f"diffusion_model.{m}.lora_A.weight",
    ),
    "plain": lambda m: (f"{m}.lora_up.weight", f"{m}.lora_down.weight"),
    "kohya": lambda m: (f"{kohya(m)}.lora_up.weight", f"{kohya(m)}.lora_down.weight"),
    "Wan Fun": lambda m: tuple(
        f"lora_unet__{m.replace('.', '_')}.lora_{way}.weight" for way in ("up", "down")
    ),
    "peft": lambda m: tuple(f"base_model.model.{m}.lora_{way}.default.weight" for way in "BA"),
    "diffusers": lambda m: tuple(
        f"transformer.{in_diffusers(m + '.weight').removesuffix('.weight')}.lora_{way}.weight"
        for way in "BA"
    ),
    "diffusers, second model": lambda m: (
        f"transformer_2.{m}.lora_B.style.weight",
        f"transformer_2.{m}.lora_A.style.weight",
    ),
    "DiffSynth": lambda m: (f"pipe.dit.{m}.lora_B_x.weight", f"pipe.dit.{m}.lora_A_x.weight"),
    "LyCORIS": lambda m: tuple(
        f"lycoris_{m.replace('.', '_')}.lora_{way}.weight" for way in ("up", "down")
    ),
    "old diffusers": lambda m: (f"transformer.{m}_lora.up.weight", f"{m}.lora.down.weight"),
    "kohya of diffusers": lambda m: tuple(
        f"{kohya(in_diffusers(m + '.weight').removesuffix('.weight'))}.lora_{way}.weight"
        for way in ("up", "down")
    ),
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("module", [QUERY, FFN, CONV, "head.head", "text_embedding.0"])
def test_every_spelling_adds_the_scaled_product(network, file, spell, module):
    up, down = factors(network, module)
    names = spell(module)
    tensors = dict(zip(names, (up, down), strict=True))
    stem = names[0].split("_lora.")[0].split(".lora")[0]
    path = file(tensors | {f"{stem}.alpha": torch.tensor(6.0)})
    weight = network.get_parameter(f"{module}.weight")
    (name,) = patches = read_lora(path, shapes(network))
    assert name == f"{module}.weight"
    product = torch.einsum("dr,rk->dk", up.flatten(1), down.flatten(1)).reshape(weight.shape)
    merged = merge(network.state_dict(), patches, -0.5)[name]
    torch.testing.assert_close(merged, weight - 0.5 * (6 / RANK) * product)


def test_without_alpha_the_product_counts_whole_at_any_rank(network, file):
    up, down = factors(network, FFN, rank=7)
    path = file({f"{FFN}.lora_up.weight": up, f"{FFN}.lora_down.weight": down})
    merged = merge(network.state_dict(), read_lora(path, shapes(network)), 2.0)
    expected = network.get_parameter(f"{FFN}.weight") + 2 * up @ down
    torch.testing.assert_close(merged[f"{FFN}.weight"], expected)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (f"diffusion_model.{QUERY}.diff", f"{QUERY}.weight"),
        (f"diffusion_model.{QUERY}.diff_b", f"{QUERY}.bias"),
        (f"diffusion_model.{QUERY}.lora_B.bias", f"{QUERY}.bias"),
        (f"base_model.model.{QUERY}.lora_B.default.bias", f"{QUERY}.bias"),
        ("diffusion_model.blocks.0.norm3.diff", "blocks.0.norm3.weight"),
        ("lora_unet_blocks_0_norm3.w_norm", "blocks.0.norm3.weight"),
        ("lora_unet_blocks_0_norm3.b_norm", "blocks.0.norm3.bias"),
        ("diffusion_model.blocks.1.self_attn.norm_q.diff", "blocks.1.self_attn.norm_q.weight"),
        ("blocks.1.modulation.diff", "blocks.1.modulation"),
        ("diffusion_model.blocks.1.diff_m", "blocks.1.modulation"),
        ("lora_unet_blocks_1.diff_m", "blocks.1.modulation"),
        ("diffusion_model.head.diff_m", "head.modulation"),
        ("transformer.blocks.1.scale_shift_table.diff", "blocks.1.modulation"),
        ("patch_embedding.diff", "patch_embedding.weight"),
    ],
)
def test_differences_are_added_as_they_are(network, file, name, parameter):
    diff = random(*network.get_parameter(parameter).shape)
    merged = merge(network.state_dict(), read_lora(file({name: diff}), shapes(network)), 0.5)
    assert list(merged) == [parameter]
    assert torch.equal(merged[parameter], network.get_parameter(parameter) + 0.5 * diff)


def test_half_precision_is_rounded_once(network, file):
    """The sum is made in float32: 256 tiny steps, each lost in bfloat16, together count."""
    network.to(torch.bfloat16)
    weight = network.get_parameter(f"{QUERY}.weight")
    up, down = torch.full((24, 256), 2.0**-8), torch.full((256, 24), 2.0**-8)
    weight.data.fill_(1.0)
    path = file({f"{QUERY}.lora_B.weight": up, f"{QUERY}.lora_A.weight": down})
    merged = with_lora(network, path, 4.0).get_parameter(f"{QUERY}.weight")
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, torch.full_like(weight, 1 + 2.0**-6))


def test_a_copy_is_changed_and_shares_the_rest(network, file):
    up, down = factors(network, QUERY)
    path = file({f"{QUERY}.lora_up.weight": up, f"{QUERY}.lora_down.weight": down})
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    copy = with_lora(network, path)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name])
        same = copy.state_dict()[name].data_ptr() == weight.data_ptr()
        assert same == (name != f"{QUERY}.weight")
    x, t, text = random(1, 16, 2, 4, 4), torch.tensor([500.0]), random(1, 4, 10)
    with torch.no_grad():
        assert not torch.allclose(copy(x, t, text), network(x, t, text))
        assert torch.equal(with_lora(network, path, 0.0)(x, t, text), network(x, t, text))


def test_two_files_add_up(network, file):
    up, down = factors(network, QUERY)
    path = file({f"{QUERY}.lora_up.weight": up, f"{QUERY}.lora_down.weight": down})
    twice = with_lora(with_lora(network, path, 0.25), path, 0.5).get_parameter(f"{QUERY}.weight")
    once = with_lora(network, path, 0.75).get_parameter(f"{QUERY}.weight")
    torch.testing.assert_close(twice, once)


@pytest.mark.parametrize(
    "foreign",
    ["lora_te_text_model_encoder_layers_0_mlp_fc1", "text_encoders.t5xxl.x", "text_encoder.y"],
)
def test_a_text_encoders_part_is_left_out_with_a_warning(network, file, caplog, foreign):
    up, down = factors(network, QUERY)
    tensors = {f"{QUERY}.lora_up.weight": up, f"{QUERY}.lora_down.weight": down}
    path = file(tensors | {f"{foreign}.lora_up.weight": up, f"{foreign}.lora_down.weight": down})
    assert list(read_lora(path, shapes(network))) == [f"{QUERY}.weight"]
    assert "style.safetensors has 2 tensors that this model has no place for" in caplog.text


def test_an_image_branch_is_left_out_where_there_is_none(network, file, caplog):
    up, down = factors(network, QUERY)
    tensors = {f"{QUERY}.lora_up.weight": up, f"{QUERY}.lora_down.weight": down}
    tensors["diffusion_model.blocks.0.cross_attn.k_img.diff"] = random(24, 24)
    assert list(read_lora(file(tensors), shapes(network))) == [f"{QUERY}.weight"]
    assert "k_img" in caplog.text


def of_another_kind(channels=5):
    """Tensors that files for models of other kinds have, though most of such a file fits."""
    embed = f"diffusion_model.{CONV}"
    return {
        f"{embed}.lora_up.weight": random(24, RANK, 1, 1, 1),
        f"{embed}.lora_down.weight": random(RANK, channels, 1, 2, 2),
        "diffusion_model.vace_blocks.0.self_attn.q.diff": random(24, 24),
        "lora_unet_vace_blocks_0_self_attn_q.alpha": torch.tensor(1.0),
        "vace_patch_embedding.diff": random(24, 96, 1, 2, 2),
        "diffusion_model.blocks.0.norm3.diff": random(25),
        "diffusion_model.head.head.diff_b": random(4),
        "diffusion_model.blocks.0.another.lora_up.weight": random(24, RANK),
        f"diffusion_model.{QUERY}.lora_down.bias": random(RANK),
        f"diffusion_model.{QUERY}.unheard_of": random(1),
    }


def test_what_has_no_place_is_left_out_where_the_blocks_fit(network, file, caplog):
    fitting = of_width(24) | {"blocks.0.norm3.diff_b": random(24)}
    plain = read_lora(file(fitting), shapes(network))
    assert len(plain) == 9 and not caplog.records
    foreign = of_another_kind()
    mixed = read_lora(file(fitting | foreign), shapes(network))
    assert f"has {len(foreign)} tensors that this model has no place for" in caplog.text
    assert mixed.keys() == plain.keys()
    merged, expected = (merge(network.state_dict(), found, 0.5) for found in (mixed, plain))
    assert all(torch.equal(merged[name], expected[name]) for name in plain)


def lokr(*, out, into, seed=0):
    """The tensors of a LoKr of an `out` x `into` matrix, its second factor a product."""
    one, a, b = random(2, 4, seed=seed), random(out // 2, RANK), random(RANK, into // 4, seed=2)
    return {"lokr_w1": one, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(2.0)}


def loha(*, out, into):
    a, b = random(out, RANK), random(RANK, into, seed=1)
    return {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": -a, "hada_w2_b": b}


def dora(*, out, into):
    held = {"lora_up.weight": random(out, RANK), "lora_down.weight": random(RANK, into)}
    return held | {"dora_scale": random(out, 1)}


@pytest.mark.parametrize("kind", [lokr, loha, dora])
def test_what_only_comfyui_merges_is_handed_on_or_refused(network, file, kind):
    held = kind(out=24, into=24)
    path = file({f"lycoris_{QUERY.replace('.', '_')}.{end}": held[end] for end in held})
    (name,) = patches = read_lora(path, shapes(network), lycoris=True)
    patch = patches[name]
    assert name == f"{QUERY}.weight"
    parts = [*patch.lycoris.values(), patch.up, patch.down, patch.dora_scale]
    read = sorted(part.sum().item() for part in parts if part is not None)
    assert read == sorted(tensor.sum().item() for end, tensor in held.items() if end != "alpha")
    assert patch.alpha == (2.0 if kind is lokr else None)
    with pytest.raises(ValueError, match=r"^style\.safetensors is a LoHa, LoKr or DoRA, which"):
        read_lora(path, shapes(network))


@pytest.mark.parametrize("kind", [lokr, loha])
def test_factors_of_another_size_are_refused(network, file, kind):
    held = kind(out=48, into=24)
    path = file({f"{QUERY}.{end}": held[end] for end in held})
    with pytest.raises(ValueError, match=r"q\.weight 48x24 instead of 24x24\)\.$"):
        read_lora(path, shapes(network), lycoris=True)


def test_factors_round_a_core_have_the_shape_of_a_kernel(network, file):
    """As LyCORIS spells a convolution: the core holds ranks and kernel."""
    cores = {"hada_t1": random(RANK, RANK, 1, 2, 2), "hada_t2": random(RANK, RANK, 1, 2, 2)}
    sides = {
        f"hada_w{i}_{side}": random(RANK, n) for i in "12" for side, n in (("a", 24), ("b", 16))
    }
    held = cores | sides
    path = file({f"{CONV}.{end}": held[end] for end in held})
    assert list(read_lora(path, shapes(network), lycoris=True)) == [f"{CONV}.weight"]
    del held["hada_t2"]
    with pytest.raises(ValueError, match="not whole"):
        read_lora(file({f"{CONV}.{end}": held[end] for end in held}), shapes(network), True)


def of_width(width, layers=2):
    names = [f"blocks.{i}.self_attn.{part}" for i in range(layers) for part in "qkvo"]
    tensors = {f"{name}.lora_up.weight": random(width, 2) for name in names}
    return tensors | {f"{name}.lora_down.weight": random(2, width, seed=1) for name in names}


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        (
            of_width(36),
            r"^style\.safetensors is a LoRA for another model: it does not fit 8 parameters"
            r" \(blocks\.0\.self_attn\.k\.weight 36x36 instead of 24x24, .*, \.\.\.\); it fits a"
            r" network 36 wide, the model is 24\.$",
        ),
        (
            of_width(36, layers=3),
            r"it does not fit 8 parameters \(blocks\.0\.self_attn\.k\.weight .*\); it fits a"
            r" network 36 wide, the model is 24\.$",
        ),
        (
            of_width(24, layers=5),
            r"it changes 12 modules that this model lacks \(blocks\.2\.self_attn\.k, .*\.\.\.\)\.$",
        ),
        (
            {
                f"double_blocks.{i}.img_attn_qkv.lora_{w}.weight": random(4, 4)
                for i in range(6)
                for w in "AB"
            },
            r"6 modules that this model lacks \((double_blocks\.\d\.img_attn_qkv, ){5}\.\.\.\)\.$",
        ),
        ({f"{QUERY}.hada_w1_a": random(4, 4)}, r"not whole: .* 1 modules \(.*q\.weight\)\.$"),
        ({f"{QUERY}.weight": random(24, 24)}, r"is no LoRA that we read: .* 1 other tensors"),
        ({f"{QUERY}.lora_up.weight": random(24, 2)}, r"not whole: it needs both up and down"),
        (
            {f"{QUERY}.lora_up.weight": random(24, 2), f"{QUERY}.lora_down.weight": random(3, 24)},
            r"does not fit 1 parameters \(.*q\.weight of two ranks instead of 24x24\)\.$",
        ),
        (
            {f"{p}{QUERY}.diff": random(24, 24) for p in ("", "diffusion_model.")},
            r"changes one parameter twice",
        ),
        ({"blocks.0.norm3.diff": random(25)}, r"norm3\.weight 25 instead of 24\)\.$"),
        ({"lora_te_x.lora_up.weight": random(2, 2)}, r"has nothing for this model"),
        ({}, r"has nothing for this model"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(network, file, tensors, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        with_lora(network, file(tensors))
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_one_sentence(network, file):
    path = file(of_width(24))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"style\.safetensors is not a whole safetensors file"):
        with_lora(network, path)
