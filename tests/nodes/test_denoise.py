"""FlowSigmas, StartDenoising, DenoiseStep and FinishDenoising without ComfyUI."""

from __future__ import annotations

import pytest
import torch

from patchdit.models.flow import shift_for, shifted_sigmas
from patchdit.nodes import host
from patchdit.nodes.denoise import DenoiseStep, FinishDenoising, StartDenoising
from patchdit.nodes.sigmas import FlowSigmas
from patchdit.standalone.host import InterruptProcessingException, Session, use_session

EMPTY = {"samples": torch.zeros(1, 16, 3, 4, 4), "video_fps": 12.0}


def sigmas_of(latent, steps=4, denoise=1.0, shift=0.0):
    return FlowSigmas.execute(latent, steps, denoise, shift).args[0]


def start(model, prompts, latent=EMPTY, seed=1, cfg=4.0, solver="euler", seeds="", **schedule):
    sigmas = sigmas_of(latent, **schedule)
    return StartDenoising.execute(model, *prompts, latent, sigmas, seed, cfg, solver, seeds).args[0]


def finish(run):
    return FinishDenoising.execute(run).args[0]


def known_start(samples, frames):
    """A LATENT whose first `frames` latent frames are to be kept."""
    mask = torch.ones_like(samples[:, :1])
    mask[:, :, :frames] = 0
    return {"samples": samples, "noise_mask": mask}


def test_sigmas_go_by_the_number_of_tokens():
    latent = {"samples": torch.zeros(1, 16, 9, 16, 16)}
    assert torch.equal(sigmas_of(latent, 7), shifted_sigmas(7, shift_for(9 * 8 * 8)))
    assert torch.equal(sigmas_of(latent, 7, 0.5, 3.0), shifted_sigmas(7, 3.0, 0.5))


@pytest.mark.parametrize("solver", ["euler", "unipc"])
@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_single_steps_equal_one_run_bit_for_bit(model, prompts, solver, cfg):
    run = start(model, prompts, solver=solver, cfg=cfg)
    whole = finish(run)
    for left in (3, 2, 1, 0):
        run, predicted, now = DenoiseStep.execute(run, 1).args
        assert now == left
    assert torch.equal(finish(run)["samples"], whole["samples"])
    assert predicted["samples"].shape == whole["samples"].shape
    assert whole["video_fps"] == 12.0


def test_more_steps_than_are_left_end_the_run(model, prompts):
    run = start(model, prompts)
    done, _, left = DenoiseStep.execute(run, 1000).args
    assert left == 0
    assert torch.equal(finish(done)["samples"], finish(run)["samples"])


def test_a_list_of_seeds_gives_each_its_own_video(model, prompts):
    batch = {"samples": torch.zeros(3, 16, 2, 4, 4)}
    three = finish(start(model, prompts, batch, seeds="5, 6, 5"))["samples"]
    assert (three[0] - three[2]).abs().max() < 1e-5 < (three[0] - three[1]).abs().max()
    one = {"samples": torch.zeros(1, 16, 2, 4, 4)}
    six = finish(start(model, prompts, one, seed=6))["samples"]
    assert (three[1] - six[0]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ("1, x", "got '1, x'"),
        ("-1", "got '-1'"),
        ("9" * 20, "from 0 to 18446744073709551615"),
        ("1 2", "2 seeds for a batch of 1"),
    ],
)
def test_bad_seeds(model, prompts, seeds, said):
    with pytest.raises(ValueError, match=said):
        start(model, prompts, seeds=seeds)


@pytest.mark.parametrize("which", ["parts", "plain_parts"])
def test_what_is_kept_stays_and_nothing_given_changes(request, prompts, which):
    parts = request.getfixturevalue(which)
    model = host.make_model(parts.transformer, parts.vae)
    assert host.fill_mode(model) == ("frames" if which == "parts" else "replace")
    latent = known_start(torch.randn(2, 16, 3, 4, 4), 1)
    before = {name: tensor.clone() for name, tensor in latent.items()}
    contexts = [entry[0][0].clone() for entry in prompts]
    result = finish(start(model, prompts, latent))
    assert (result["samples"] - before["samples"])[:, :, 0].abs().max() < 1e-5
    assert (result["samples"] - before["samples"])[:, :, 1:].abs().max() > 0.1
    assert "noise_mask" not in result
    assert all(torch.equal(latent[name], tensor) for name, tensor in before.items())
    assert all(torch.equal(e[0][0], c) for e, c in zip(prompts, contexts, strict=True))


def test_known_frames_are_told_to_weights_that_were_trained_so(parts, prompts):
    """With per-frame levels the known frame reaches the network clean, at timestep 0; the other
    half of guidance is not shown it.
    """
    seen = []
    hook = parts.transformer.register_forward_pre_hook(
        lambda module, args: seen.append((args[0].clone(), args[1].clone()))
    )
    model = host.make_model(parts.transformer, parts.vae)
    latent = known_start(torch.randn(1, 16, 3, 4, 4), 1)
    finish(start(model, prompts, latent))
    hook.remove()
    clean = host.prepare_latent(model, latent)
    told = [(x, timestep) for x, timestep in seen if timestep.shape == (1, 3)]
    blind = [x for x, timestep in seen if timestep.shape == (1,)]
    assert len(told) == len(blind) == len(seen) / 2 > 0
    assert all(timestep[0, 0] == 0 and timestep[0, 1] > 0 for _, timestep in told)
    assert all(torch.equal(x[:, :, 0], clean[:, :, 0]) for x, _ in told)
    assert not any(torch.isclose(x[:, :, 0], clean[:, :, 0]).all() for x in blind)


def test_partial_denoise_keeps_some_of_the_latent(model, prompts):
    samples = 3 * torch.randn(1, 16, 3, 4, 4)
    changes = [
        (finish(start(model, prompts, {"samples": samples}, denoise=d))["samples"] - samples)
        .square()
        .mean()
        for d in (0.2, 1.0)
    ]
    assert changes[0] < changes[1]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (torch.full((1, 16, 3, 4, 4), float("nan")), "768 values that are not numbers"),
        (torch.zeros(1, 48, 3, 4, 4), "48 channels, .* has 16"),
        (torch.zeros(16, 4), "shape \\(16, 4\\)"),
    ],
)
def test_bad_latents(model, prompts, samples, said):
    with pytest.raises(ValueError, match=said):
        start(model, prompts, {"samples": samples}, shift=2.0)


def test_a_size_off_the_grid_is_one_sentence(model, prompts):
    latent = {"samples": torch.zeros(1, 16, 2, 5, 4)}
    with pytest.raises(ValueError, match="2x5x4"):
        finish(start(model, prompts, latent))


def test_bad_sigmas(model, prompts):
    with pytest.raises(ValueError, match="fall from at most 1 to 0"):
        StartDenoising.execute(
            model, *prompts, EMPTY, torch.tensor([0.0, 1.0]), 1, 4.0, "euler", ""
        )


def test_progress_counts_steps_and_cancel_stops_within_one(model, prompts):
    told = []

    def report(node, value, total):
        told.append((value, total))
        if value == 2:
            session.interrupt.set()

    session = Session(on_progress=report)
    with use_session(session), pytest.raises(InterruptProcessingException):
        finish(start(model, prompts, steps=9))
    assert told == [(1, 9), (2, 9)]
