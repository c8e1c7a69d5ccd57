"""Guidance by known frames: what each half of it is shown, and where it is left out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from patchdit.models.guidance import guided_by_known, without_known
from patchdit.nodes.host import guides_itself
from patchdit.nodes.sampling import advance, begin, finish_run, leads_by_known, sample

SIGMAS = torch.tensor([1.0, 0.6, 0.0])
FRAMES = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])  # the mask of a clip whose first two are known
CFG = 3.0


@pytest.fixture
def told(model, monkeypatch):
    """The timesteps of every call of the network, as lists."""
    calls = []
    forward = model.network.forward

    def spy(x, timestep, *rest, **options):
        calls.extend(timestep.tolist())
        return forward(x, timestep, *rest, **options)

    monkeypatch.setattr(model.network, "forward", spy)
    return calls


def latent(mask_T=FRAMES):
    generator = torch.Generator().manual_seed(0)
    mask = mask_T.view(1, 1, -1, 1, 1).expand(1, 1, 5, 4, 4)
    return {"samples": torch.randn(1, 16, 5, 4, 4, generator=generator), "noise_mask": mask}


def test_the_blind_half_takes_known_frames_for_noise(model, prompts, told):
    sample(begin(model, *prompts, CFG, latent(), SIGMAS, seed=1))
    levels = [[0.0, 0.0, s, s, s] for s in (1000.0, 600.0)]
    blind = [torch.tensor(level).tolist() for level in (1000.0, 600.0)]
    assert [one for one in told if isinstance(one, float)] == pytest.approx(blind)
    assert [one for one in told if isinstance(one, list)] == [pytest.approx(one) for one in levels]


@pytest.mark.parametrize("cfg", [1.0, CFG])
def test_it_is_classifier_free_guidance_of_two_runs_step_by_step(model, prompts, cfg):
    positive, negative = prompts
    run = begin(model, positive, negative, cfg, latent(), SIGMAS[1:], seed=1)
    shown = finish_run(run)["samples"]
    known = run.state.latent[:, :, :2]
    blind = begin(model, negative, negative, 1.0, latent(torch.ones(5)), SIGMAS[1:], seed=1)
    blind = finish_run(blind)["samples"]
    informed = sample(begin(model, positive, negative, 1.0, latent(), SIGMAS[1:], seed=1))[
        "samples"
    ]
    torch.testing.assert_close(model.latents.normalise(shown)[:, :, :2], known)
    expected = blind + cfg * (informed - blind)
    torch.testing.assert_close(shown[:, :, 2:], expected[:, :, 2:], atol=1e-4, rtol=0)


def test_regions_and_whole_clips_are_guided_by_prompts_alone(model, prompts, told):
    region = latent(torch.ones(5))
    region["noise_mask"] = region["noise_mask"].clone()
    region["noise_mask"][..., :2] = 0
    for given in (region, latent(torch.ones(5))):
        run = begin(model, *prompts, CFG, given, SIGMAS, seed=1)
        assert not leads_by_known(run)
    assert leads_by_known(begin(model, *prompts, CFG, latent(), SIGMAS, seed=1))
    assert not leads_by_known(begin(model, *prompts, 1.0, latent(), SIGMAS, seed=1))


def test_a_guidance_of_another_pack_is_left_to_it():
    assert not guides_itself(SimpleNamespace(model_options={"transformer_options": {}}))
    for name in ("sampler_cfg_function", "sampler_calc_cond_batch_function"):
        assert guides_itself(SimpleNamespace(model_options={name: []}))


def test_a_run_in_pieces_is_one_run(model, prompts):
    run = begin(model, *prompts, CFG, latent(), torch.linspace(1, 0, 5), seed=1, solver="unipc")
    whole = finish_run(run)["samples"]
    for _ in range(4):
        run = advance(run, 1)
    assert torch.equal(finish_run(run)["samples"], whole)


def test_what_is_known_becomes_noise_at_the_level_of_its_clip():
    x, noise = torch.randn(2, 2, 3, 1, 1), torch.randn(2, 2, 3, 1, 1)
    sigma = torch.tensor([[0.0, 0.5, 0.5], [0.8, 0.8, 0.0]])
    unseen, level = without_known(x, sigma, noise)
    assert level.tolist() == pytest.approx([0.5, 0.8])
    torch.testing.assert_close(unseen[0, :, 0], (x[0, :, 0] + noise[0, :, 0]) / 2)
    torch.testing.assert_close(unseen[1, :, 2], 0.2 * x[1, :, 2] + 0.8 * noise[1, :, 2])
    assert torch.equal(unseen[0, :, 1:], x[0, :, 1:]) and torch.equal(unseen[1, :, :2], x[1, :, :2])


def test_levels_by_cell_are_shown_to_both_halves():
    seen = []

    def half(value):
        def predict(x, sigma):
            seen.append(sigma)
            return torch.full_like(x, value)

        return predict

    guided = guided_by_known(half(2.0), half(1.0), 4.0, torch.zeros(1))
    x, sigma = torch.zeros(1, 2, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    assert guided(x, sigma).unique().tolist() == [5.0]
    assert all(one is sigma for one in seen)


def test_a_softly_kept_region_keeps_a_run_in_pieces_one_run(model, prompts):
    soft = latent(torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0]))
    soft["noise_mask"] = soft["noise_mask"].clone()
    soft["noise_mask"][:, :, 3, :2, :2] = 0.5
    run = begin(model, *prompts, CFG, soft, torch.linspace(1, 0, 7), seed=1)
    whole = finish_run(run)["samples"]
    for _ in range(6):
        run = advance(run, 1)
    assert torch.equal(finish_run(run)["samples"], whole)


def test_less_than_the_prompt_alone_is_not_led_away_from_what_is_known(model, prompts):
    for cfg in (0.0, 0.5):
        assert not leads_by_known(begin(model, *prompts, cfg, latent(), SIGMAS, seed=1))
