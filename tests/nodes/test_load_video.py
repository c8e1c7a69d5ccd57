"""LoadVideoModel and LoadVideoVAE without ComfyUI: files, what a CONDITIONING says, and errors."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from patchdit.models.config import VAE_PRESETS, TransformerConfig
from patchdit.models.flow import denoise, finish, start
from patchdit.models.guidance import ModelDenoiser
from patchdit.models.solvers import shifted_sigmas
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes import host, load_video
from patchdit.nodes.host import alone, conditions
from patchdit.nodes.host.duck import Model, Statistics, Vae
from patchdit.nodes.host.facts import facts_of, shift_of
from patchdit.nodes.load_video import LoadVideoModel, LoadVideoVAE

T2V = TransformerConfig(128, 128, 1, 2)
CONFIGS = {
    "wan2.1_t2v": T2V,
    "wan2.2_i2v_low_noise": replace(T2V, in_channels=36),
    "wan2.2_ti2v": replace(T2V, in_channels=48, out_channels=48, frame_timesteps=True),
    "wan2.1_vace": replace(T2V, vace_blocks=1, vace_channels=96),
}
SMALL_VAE = replace(VAE_PRESETS["wan2.1"], encoder_width=8, decoder_width=8)
SHAPE = 1, 16, 2, 4, 4
GRID = SHAPE[2:]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models folder with a random file of each kind."""
    root = tmp_path_factory.mktemp("models")
    for kind in ("diffusion_models", "vae"):
        (root / kind).mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, config in CONFIGS.items():
            file = root / "diffusion_models" / f"{name}.safetensors"
            save_file(PatchDiT(config).state_dict(), file)
        save_file(VideoVAE(SMALL_VAE).state_dict(), root / "vae" / "wan.safetensors")
    return root


@pytest.fixture(autouse=True)
def folders(models, monkeypatch):
    monkeypatch.setenv("PATCHDIT_MODELS", str(models))


def load(name):
    return LoadVideoModel.execute(f"{name}.safetensors").args


def prompt(seed=0, tokens=512, **values):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, tokens, 4096, generator=generator), values]]


def run(model, positive, negative, cfg=3.0):
    state = start(torch.zeros(SHAPE), None, shifted_sigmas(2, 5.0), 7)
    denoiser = host.as_denoiser(model, positive, negative, cfg)
    return finish(denoiser.run(state, lambda denoiser: denoise(state, denoiser)))


def test_files_are_listed_and_described():
    infos = {name: load(name)[1] for name in CONFIGS}
    options = LoadVideoModel.GET_NODE_INFO_V1()["input"]["required"]["model_name"][1]["options"]
    assert options == sorted(f"{name}.safetensors" for name in CONFIGS)
    assert "text to video" in infos["wan2.1_t2v"] and "Wan 2.1 VAE" in infos["wan2.1_t2v"]
    assert "load the high-noise half too" in infos["wan2.2_i2v_low_noise"]
    assert "Wan 2.2 VAE" in infos["wan2.2_ti2v"]
    shown = LoadVideoModel.execute("wan2.1_t2v.safetensors").ui
    assert shown == {"text": (infos["wan2.1_t2v"],)}


@pytest.mark.parametrize(
    ("name", "fps", "frames", "half"),
    [
        ("wan2.1_t2v", 16, 81, ""),
        ("wan2.2_i2v_low_noise", 16, 81, "low"),
        ("wan2.2_ti2v", 24, 121, ""),
    ],
)
def test_what_a_family_was_trained_at(name, fps, frames, half):
    model, _ = load(name)
    facts = facts_of(model)
    assert (facts.fps, facts.frames, model.noise_half) == (fps, frames, half)
    assert shift_of(model, 1000) == 8.0


@pytest.mark.parametrize(("half", "noise"), [("auto", ""), ("high", "high"), ("low", "low")])
def test_which_half_a_file_is_can_be_said(models, half, noise):
    path = models / "diffusion_models" / "mine.safetensors"
    save_file(PatchDiT(CONFIGS["wan2.2_i2v_low_noise"]).state_dict(), path)
    try:
        model, info = LoadVideoModel.execute("mine.safetensors", "auto", half).args
    finally:
        path.unlink()
    assert model.noise_half == noise and (f"{noise}-noise half, " in info) == bool(noise)


def test_a_run_is_that_of_the_network(models):
    model, _ = load("wan2.1_t2v")
    positive, negative = prompt(1), prompt(2)
    denoiser = ModelDenoiser(model.network, positive[0][0], negative[0][0], 3.0, "sequential")
    state = start(torch.zeros(SHAPE), None, shifted_sigmas(2, 5.0), 7)
    with torch.no_grad():
        expected = finish(denoise(state, denoiser))
    assert (run(model, positive, negative) - expected).abs().max() < 1e-5


def test_a_short_prompt_is_padded_with_zeros():
    model, _ = load("wan2.1_t2v")
    short = prompt(1, tokens=5)
    padded = [[torch.nn.functional.pad(short[0][0], (0, 0, 0, 507)), {}]]
    assert torch.equal(run(model, short, short), run(model, padded, padded))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("wan2.2_i2v_low_noise", {"concat_latent_image": torch.ones(SHAPE)}),
        ("wan2.1_vace", {"vace_frames": [torch.ones(1, 32, *GRID)]}),
    ],
)
def test_conditions_reach_the_network_for_each_prompt_apart(name, values):
    model, _ = load(name)
    plain = run(model, prompt(1), prompt(2))
    both = run(model, prompt(1, **values), prompt(2, **values))
    one = run(model, prompt(1, **values), prompt(2))
    for a, b in ((plain, both), (plain, one), (one, both)):
        assert (a - b).abs().max() > 1e-3


def test_image_channels_are_mask_and_normalised_latent():
    latents = Statistics((1.0,) * 16, (2.0,) * 16)
    mask = torch.ones(1, 1, *GRID)
    mask[:, :, 0] = 0
    values = {"concat_latent_image": torch.full(SHAPE, 5.0), "concat_mask": mask}
    made = conditions.image_channels(values, latents, 20, SHAPE)
    assert made.shape == (1, 20, *GRID)
    assert (made[:, :4, 0] == 1).all() and (made[:, :4, 1:] == 0).all()
    assert (made[:, 4:] == 2).all()
    assert (conditions.image_channels({}, latents, 20, SHAPE) == 0).all()


def test_a_mask_of_four_planes_and_fewer_frames_keeps_its_planes():
    latents = Statistics((0.0,) * 16, (1.0,) * 16)
    mask = torch.ones(1, 4, 1, 4, 4)
    mask[:, 2] = 0
    values = {"concat_latent_image": torch.zeros(SHAPE), "concat_mask": mask}
    made = conditions.image_channels(values, latents, 20, SHAPE)
    assert made[0, :4, 0].amax((1, 2)).tolist() == [0, 0, 1, 0] and (made[:, :4, 1] == 0).all()


def test_control_of_a_prompt():
    latents = Statistics((1.0,) * 16, (2.0,) * 16)
    cpu = torch.device("cpu")
    empty = conditions.control_of({}, latents, 96, SHAPE, cpu)
    assert empty.strengths == (1.0,)
    assert (empty.values[0][:, :32] == -0.5).all() and (empty.values[0][:, 32:] == 1).all()
    frames = [torch.full((1, 32, *GRID), 5.0)] * 2
    masks = [torch.zeros(1, 64, *GRID)] * 2
    said = {"vace_frames": frames, "vace_mask": masks, "vace_strength": [1.0, 0.5]}
    made = conditions.control_of(said, latents, 96, SHAPE, cpu)
    assert made.strengths == (1.0, 0.5) and (made.values[1][:, :32] == 2).all()


@pytest.mark.parametrize("key", ["concat_latent_image", "concat_mask"])
def test_an_image_of_another_size_is_refused(key):
    model, _ = load("wan2.2_i2v_low_noise")
    values = {"concat_latent_image": torch.zeros(SHAPE), key: torch.zeros(1, 16, 2, 4, 6)}
    with pytest.raises(ValueError, match=rf"{key} is \(2, 4, 6\)"):
        run(model, prompt(1, **values), prompt(2))


def test_image_features_are_the_last_but_one_layers():
    config = replace(T2V, image_width=8)
    model = Model(SimpleNamespace(config=config), Statistics.of_channels(16))  # pyright: ignore
    features = torch.ones(1, 257, 8)
    entry = prompt(clip_vision_output=SimpleNamespace(penultimate_hidden_states=features))
    said = conditions.conditions_of(
        conditions.entry_of(entry, "positive"), model, SHAPE, torch.device("cpu")
    )
    assert said.image_BSD is not None and torch.equal(said.image_BSD, features)


@pytest.mark.parametrize("channels", [16, 48])
def test_statistics_are_those_of_the_familys_vae(channels):
    preset = VAE_PRESETS["wan2.2" if channels == 48 else "wan2.1"]
    vae = VideoVAE(preset, device="meta")
    latent, space = torch.randn(1, channels, 2, 3, 3), Statistics.of_channels(channels)
    assert torch.equal(space.normalise(latent), vae.normalise(latent))
    assert torch.equal(space.denormalise(latent), vae.denormalise(latent))


def test_latents_of_another_vae_are_refused():
    model, _ = load("wan2.2_ti2v")
    with pytest.raises(ValueError, match=r"16 channels.*48.*same family"):
        host.prepare_latent(model, {"samples": torch.ones(SHAPE)})


def test_fp8_needs_comfyui():
    with pytest.raises(ValueError, match="needs ComfyUI"):
        LoadVideoModel.execute("wan2.1_t2v.safetensors", "fp8_e4m3fn")


def test_bf16_computes_in_bf16():
    model = LoadVideoModel.execute("wan2.1_t2v.safetensors", "bf16").args[0]
    assert {p.dtype for p in model.network.parameters()} == {torch.bfloat16}
    assert run(model, prompt(1), prompt(2)).isfinite().all()


def test_the_info_says_what_the_weights_take_once_loaded(monkeypatch):
    """Half of a file of 32 bits."""
    seen = []
    monkeypatch.setattr(load_video, "describe", lambda file, size: seen.append((file, size)) or "")
    LoadVideoModel.execute("wan2.1_t2v.safetensors", "bf16")
    [(file, size)] = seen
    assert size == 2 * file.parameters == file.bytes / 2
    monkeypatch.undo()
    assert "; 3.0 GB in memory; " in load_video.describe(file, 3 * 2**30)


def test_loading_shows_how_far_it_is_and_stops(monkeypatch):
    seen = []

    def bar(total):
        return lambda done: stop_at(5, done, total)

    def stop_at(last, done, total):
        seen.append(done)
        assert total == len(PatchDiT(T2V).state_dict())
        if done == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(alone, "progress", bar)
    with pytest.raises(KeyboardInterrupt):
        LoadVideoModel.execute("wan2.1_t2v.safetensors")
    assert seen == [1, 2, 3, 4, 5]


def test_bad_files_are_one_sentence(models, weights):
    folder = models / "diffusion_models"
    own = weights / "blockworld-mini-transformer.safetensors"
    bad = {"own": own.read_bytes(), "cut": (folder / "wan2.1_t2v.safetensors").read_bytes()[:-99]}
    lora = folder / "lora.safetensors"
    try:
        for name, data in bad.items():
            (folder / f"{name}.safetensors").write_bytes(data)
        save_file({f"x.{i}.lora_A.weight": torch.zeros(1, 1) for i in range(9)}, lora)
        for name, what in (("own", "Load Blockworld"), ("cut", "cut"), ("lora", "LoRA")):
            with pytest.raises(ValueError, match=what) as caught:
                load(name)
            assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match=r"gone\.safetensors"):
            load("gone")
    finally:
        for name in (*bad, "lora"):
            (folder / f"{name}.safetensors").unlink()


@pytest.fixture
def vae():
    return LoadVideoVAE.execute("wan.safetensors").args[0]


def test_a_vae_is_that_of_the_file_a_few_frames_at_a_time(vae, models):
    whole = VideoVAE(SMALL_VAE).eval()
    whole.load_state_dict(vae.first_stage_model.state_dict())
    clip = torch.rand(2, 9, 16, 24, 3)
    with torch.no_grad():
        latent = whole.encode(clip.movedim(-1, 1) * 2 - 1)
        video = whole.decode(latent)
    assert (vae.encode(clip) - latent).abs().max() < 1e-4
    assert (vae.decode(latent) - (video.movedim(1, -1) + 1) / 2).abs().max() < 1e-4
    assert vae.latent_channels == 16 and vae.spacial_compression_decode() == 8


def test_memory_asked_for_does_not_grow_with_the_clip(vae):
    asked = []

    def spy(memory=0):
        asked.append(memory)
        return torch.device("cpu")

    watched = Vae(vae.first_stage_model, spy)
    for frames, side in ((1, 2), (3, 2), (1, 4)):
        asked.clear()
        watched.decode(torch.zeros(1, 16, frames, side, side))
        watched.encode(torch.zeros(1, 4 * frames - 3, 8 * side, 8 * side, 3))
        assert set(asked) == {2200 * (8 * side) ** 2 * 4}


def test_a_narrow_vae_computes_narrow(vae):
    narrow = Vae(VideoVAE(SMALL_VAE).bfloat16().eval(), lambda memory=0: torch.device("cpu"))
    latent = narrow.encode(torch.rand(5, 16, 16, 3))
    assert latent.dtype == torch.float32 and latent.isfinite().all()
    assert narrow.decode(latent).shape == (1, 5, 16, 16, 3)


def test_a_length_that_is_not_1_plus_4k_is_refused(vae):
    with pytest.raises(ValueError, match=r"7 frames; need 1 \+ 4k, the nearest 5 or 9"):
        vae.encode(torch.rand(7, 16, 16, 3))
