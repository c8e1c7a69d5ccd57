"""The parts of training: optimiser, masks, and a run that is killed and goes on."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchdit.models import blockworld
from patchdit.models.config import VAE_PRESETS
from patchdit.models.timeline import encode_suffix, latent_frames, pixel_frames
from patchdit.models.video_vae import VideoVAE
from patchdit.training import train_vae
from patchdit.training.masks import KINDS, draw_levels, draw_sigmas
from patchdit.training.optimizer import Muon, Optimizers, orthogonalise
from patchdit.training.replicas import Replicas
from patchdit.training.run import Run
from patchdit.training.train_dit import Average, cell_levels, loss_of, plain_attention


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert values.min() > 0.3 and values.max() < 1.4


def test_muon_update_does_not_depend_on_the_gradients_size():
    def moved(scale):
        p = torch.nn.Parameter(torch.zeros(6, 6))
        p.grad = scale * torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
        Muon([p], lr=0.1).step()
        return p.detach()

    assert torch.allclose(moved(1.0), moved(128.0), atol=1e-3)
    assert moved(1.0).abs().max() > 0.01


def test_optimizers_skip_a_step_whose_gradients_are_not_numbers():
    layer = torch.nn.Linear(4, 4)
    before = layer.weight.detach().clone()
    optimizers = Optimizers(layer, 0.1, 0.1)
    layer(torch.full((1, 4), torch.nan)).sum().backward()
    optimizers.step(1.0)
    assert torch.equal(layer.weight, before)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)),
    grid=st.tuples(st.integers(2, 9), st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 10**6),
)
def test_every_training_sample_has_something_to_predict(kind, grid, seed):
    g = torch.Generator().manual_seed(seed)
    T, h, w = grid
    starts = torch.randint(1, T + 1, (3,), generator=g)
    levels = draw_levels(g, kind, 3, grid, starts)
    columns = {"none": (3,), "region": (3, T * h * w)}.get(kind, (3, T))
    assert levels.shape == columns
    assert (levels.reshape(3, -1) > 0).any(1).all()
    assert levels.max() < 1
    if kind in ("prefix", "suffix", "both ends") and T > 2:
        assert (levels == 0).any(1).all()
    if kind == "suffix":
        assert (levels[:, -1] == 0).all()


def test_noise_levels_lean_further_to_one_with_more_tokens():
    few, many = (
        draw_sigmas(torch.Generator().manual_seed(0), (4000,), tokens).mean()
        for tokens in (80, 2000)
    )
    assert 0.5 < few < many


def test_loss_counts_unknown_cells_only():
    x0, noise = torch.randn(2, 2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.5, 0.0]])
    weight = torch.ones(2, 1, 3, 4, 4)
    wrong_where_known = (noise - x0) + 100 * (cell_levels(levels, x0) == 0)
    batch = (x0, x0, noise, levels, weight, None)
    assert loss_of(lambda x, t, tokens: wrong_where_known, batch) == 0
    seen = {}
    loss_of(lambda x, t, tokens: seen.update(x=x, t=t) or x, batch)
    assert torch.equal(seen["x"][0, :, 0], x0[0, :, 0])
    assert torch.equal(seen["t"], levels * 1000)


def test_region_levels_are_spread_over_the_cells_of_each_token():
    levels = torch.arange(8.0).view(1, 8)  # T=2, 2x2 tokens
    cells = cell_levels(levels, torch.zeros(1, 1, 2, 4, 4))
    assert cells.shape == (1, 1, 2, 4, 4)
    assert cells[0, 0, 1, 2:, :2].unique().tolist() == [6.0]


def test_plain_attention_is_attention():
    q, k, v = torch.randn(3, 2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    mask |= torch.eye(5, dtype=torch.bool)
    for m in (None, mask):
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, m)
        assert torch.allclose(plain_attention(q, k, v, m), expected, atol=1e-5)


def test_average_follows_the_weights():
    layer = torch.nn.Linear(2, 2)
    average = Average(layer, 0.9, every=1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    for step in range(200):
        average.update(layer, step)
    copy = torch.nn.Linear(2, 2)
    average.copy_to(copy)
    assert torch.allclose(copy.weight, layer.weight, atol=1e-3)


def test_a_runs_clock_and_steps_survive_a_kill(tmp_path):
    first = Run(tmp_path, minutes=1)
    first.step, first.spent = 7, 30.0
    first.save({"w": torch.ones(1)})
    second = Run(tmp_path, minutes=1)
    assert torch.equal(second.resume()["w"], torch.ones(1))
    assert second.step == 7
    assert 0.49 < second.progress < 0.6
    assert second.rate(1.0) == pytest.approx(0, abs=1e-9)


def test_vae_training_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    preset = train_vae.Preset(0.05, (8, 8), ((1, 5),), ((64, 64),), 1e-3)
    monkeypatch.setitem(train_vae.PRESETS, "tiny", preset)
    monkeypatch.setattr(train_vae, "latent_statistics", lambda vae: ((0.0,) * 16, (1.0,) * 16))
    args = argparse.Namespace(preset="tiny", minutes=None, lr=None, run=str(tmp_path), out=None)
    args.start, args.decoder_only = None, False
    train_vae.train(args, Replicas())
    steps = Run(tmp_path, 1)
    steps.resume()
    assert steps.step > 0 and (tmp_path / "weights/blockworld-mini-vae.safetensors").exists()
    args.minutes = 0.1
    train_vae.train(args, Replicas())
    later = Run(tmp_path, 1)
    later.resume()
    assert later.step > steps.step


def test_training_the_decoder_only_keeps_every_latent(tmp_path, monkeypatch):
    preset = train_vae.Preset(0.02, (8, 8), ((1, 5),), ((64, 64),), 1e-2)
    monkeypatch.setitem(train_vae.PRESETS, "tiny", preset)
    before = train_vae.new_vae(preset)
    before.config = replace(before.config, latent_mean=(0.5,) * 16, latent_std=(2.0,) * 16)
    blockworld.save("vae", before, tmp_path / "start", {})
    before = blockworld.load_vae(tmp_path / "start")
    args = argparse.Namespace(preset="tiny", minutes=None, lr=None, run=str(tmp_path / "run"))
    args.out, args.start, args.decoder_only = str(tmp_path / "end"), str(tmp_path / "start"), True
    train_vae.train(args, Replicas())
    after = blockworld.load_vae(tmp_path / "end")
    video = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    with torch.no_grad():
        latent = before.encode(video)
        assert torch.equal(latent, after.encode(video))
        assert not torch.equal(before.decode(latent), after.decode(latent))
    assert after.config.latent_mean == before.config.latent_mean


def test_frames_and_latents():
    assert [latent_frames(n) for n in (1, 5, 17, 33)] == [1, 2, 5, 9]
    assert all(pixel_frames(latent_frames(n)) == n for n in range(1, 60, 4))
    with pytest.raises(ValueError, match="1 \\+ 4k"):
        latent_frames(6)


def test_an_encoded_suffix_is_the_tail_of_a_clip_that_starts_with_its_still():
    vae = VideoVAE(VAE_PRESETS["blockworld-mini"]).eval()
    video = torch.rand(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        suffix = encode_suffix(vae, video, lead=1)
        whole = vae.encode(torch.cat([video[:, :, :1].expand(-1, -1, 5, -1, -1), video], 2))
    assert suffix.shape[2] == 2
    assert torch.equal(suffix, whole[:, :, 2:])
    with pytest.raises(ValueError, match="multiple of 4"):
        encode_suffix(vae, video[:, :, :3])


def test_evaluation_reads_a_perfect_autoencoder_as_perfect():
    class Perfect(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.p = torch.nn.Parameter(torch.zeros(1))

        encode = decode = staticmethod(lambda x: x)

    whole, box = train_vae.evaluate(Perfect(), 2, 64, 64, 5)
    assert min(whole, box) > 100
    assert np.isfinite([whole, box]).all()
