"""Guidance in closed form, and that what a run reuses does not change it."""

from dataclasses import replace

import pytest
import torch

from patchdit.models.config import TransformerConfig
from patchdit.models.flow import denoise, finish, shifted_sigmas, start
from patchdit.models.guidance import ModelDenoiser
from patchdit.models.transformer import PatchDiT

CONFIG = TransformerConfig(
    32, 48, 2, 2, in_channels=4, out_channels=4, text_width=12, text_length=5,
    frame_timesteps=True, known_attends_known=True,
)  # fmt: skip


def make(config=CONFIG):
    torch.manual_seed(0)
    return PatchDiT(config).eval()


def contexts(rows=1):
    torch.manual_seed(1)
    return torch.randn(2, rows, 5, 12)


def x_of(batch=2):
    torch.manual_seed(2)
    return torch.randn(batch, 4, 3, 4, 4)


@torch.no_grad()
@pytest.mark.parametrize("batching", ["batched", "sequential"])
@pytest.mark.parametrize("rows", [1, 2])
def test_guidance_is_its_formula(batching, rows):
    model, x, (yes, no) = make(), x_of(), contexts(rows)
    sigma = torch.tensor([0.9, 0.4])
    guided = ModelDenoiser(model, yes, no, 4.0, batching)(x, sigma)
    v_yes, v_no = (model(x, 1000 * sigma, c.expand(2, -1, -1)) for c in (yes, no))
    v = v_no + 4 * (v_yes - v_no)
    torch.testing.assert_close(guided, x - sigma.view(2, 1, 1, 1, 1) * v, atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_guidance_the_negative_prompt_is_not_computed():
    model, x, (yes, no) = make(), x_of(), contexts()
    rows = []
    model.text_embedding.register_forward_hook(lambda m, i, out: rows.append(len(out)))
    denoiser = ModelDenoiser(model, yes, no, 1.0)
    out = [denoiser(x, torch.tensor([s, s])) for s in (0.9, 0.4)]
    assert rows == [2]  # once for both steps
    v = model(x, torch.tensor([400.0, 400.0]), yes.expand(2, -1, -1))
    torch.testing.assert_close(out[1], x - 0.4 * v, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("batching", ["batched", "sequential"])
def test_sigmas_by_frame_and_by_cell(batching):
    model, x, (yes, no) = make(), x_of(), contexts()
    denoiser = ModelDenoiser(model, yes, no, 3.0, batching)
    frames = torch.tensor([[0.0, 0.8, 0.8], [0.0, 0.8, 0.8]])
    by_frame = denoiser(x, frames)
    by_cell = denoiser(x, frames[:, :, None, None].expand(-1, -1, 4, 4))
    torch.testing.assert_close(by_frame, by_cell, atol=1e-5, rtol=0)
    assert torch.equal(by_frame[:, :, 0], x[:, :, 0])
    different = torch.tensor([[0.0, 0.8, 0.8], [0.8, 0.8, 0.0]])
    out = denoiser(x, different)
    torch.testing.assert_close(out[:1], by_frame[:1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_known_tokens_are_computed_once_in_a_run():
    model, (yes, no) = make(), contexts()
    tokens = []
    model.head.register_forward_pre_hook(lambda m, args: tokens.append(args[0].shape[1]))
    mask = torch.ones(2, 1, 3, 4, 4)
    mask[:, :, :2] = 0
    state = start(x_of(), mask, shifted_sigmas(3), 1)
    run = denoise(state, ModelDenoiser(model, yes, no, 2.0))
    assert tokens == [8, 4, 4, 4]
    forgetful = denoise(state, lambda x, s: ModelDenoiser(model, yes, no, 2.0)(x, s))
    torch.testing.assert_close(finish(run), finish(forgetful), atol=1e-5, rtol=0)


@torch.no_grad()
def test_narrow_weights_denoise_a_float32_latent():
    x, (yes, no) = x_of(), contexts()
    sigma = torch.tensor([0.9, 0.4])
    exact = ModelDenoiser(make(), yes, no, 2.0)(x, sigma)
    out = ModelDenoiser(make().bfloat16(), yes, no, 2.0)(x, sigma)
    assert out.dtype == torch.float32
    assert (out - exact).abs().mean() < 0.03 * (x - exact).abs().mean()


@torch.no_grad()
def test_what_image_conditioned_weights_see_beside_x():
    model = make(replace(CONFIG, in_channels=6, image_width=10))
    x, (yes, no) = x_of(), contexts()
    beside, features = torch.randn(1, 2, 3, 4, 4), torch.randn(1, 7, 10)
    sigma = torch.tensor([0.5, 0.5])
    out = ModelDenoiser(model, yes, no, 2.0, "batched", features, beside)(x, sigma)
    wide = torch.cat((x, beside.expand(2, -1, -1, -1, -1)), 1)
    velocity = [
        model(wide, 1000 * sigma, c.expand(2, -1, -1), features.expand(2, -1, -1))
        for c in (yes, no)
    ]
    expected = x - 0.5 * (velocity[1] + 2 * (velocity[0] - velocity[1]))
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


def test_bad_settings_are_refused():
    model, (yes, no) = make(), contexts(3)
    with pytest.raises(ValueError, match="batched, sequential"):
        ModelDenoiser(model, yes, no, 2.0, "sometimes")
    with pytest.raises(ValueError, match="needs a negative prompt"):
        ModelDenoiser(model, yes, None, 2.0)
    with pytest.raises(ValueError, match="3 prompts for a batch of 2"):
        ModelDenoiser(model, yes, no, 2.0)(x_of(), torch.tensor([0.5, 0.5]))
