"""TellKnown: prompts for samplers that know only noise masks are those of our own runs."""

from __future__ import annotations

import torch

from patchdit.nodes.denoise import StartDenoising
from patchdit.nodes.tell_known import TellKnown

from .test_denoise import known_start, sigmas_of
from .test_fill import native

__all__ = ["native"]  # a fixture


def assert_close(said, others):
    """That nested lists and dicts are alike, their tensors but for rounding."""
    if isinstance(said, torch.Tensor):
        torch.testing.assert_close(said, others)
    elif isinstance(said, dict | list):
        places = said if isinstance(said, dict) else range(len(said))
        assert len(said) == len(others)
        for place in places:
            assert_close(said[place], others[place])
    else:
        assert said == others


def told(model, prompts, vae, latent):
    return TellKnown.execute(model, vae, *prompts, latent).args


def test_prompts_are_those_of_our_own_run_and_the_mask_is_gone(native, prompts, vae):
    latent = known_start(torch.randn(1, 16, 3, 4, 4), 1)
    *said, rest = told(native, prompts, vae, latent)
    run = StartDenoising.execute(
        native, *prompts, latent, sigmas_of(latent), 1, 2.0, "euler", "", vae
    ).args[0]
    assert_close(said, [run.positive, run.negative])
    assert said[0][0][1].keys() > prompts[0][0][1].keys()
    assert "noise_mask" in latent and rest.keys() == {"samples"}
    assert torch.equal(rest["samples"], latent["samples"])


def test_a_model_that_holds_cells_itself_gets_all_as_it_was(model, prompts, vae):
    latent = known_start(torch.randn(1, 16, 3, 4, 4), 1)
    given = told(model, prompts, vae, latent)
    assert all(a is b for a, b in zip(given, (*prompts, latent), strict=True))


def test_where_nothing_is_kept_nothing_is_told(native, prompts, vae):
    latent = {"samples": torch.zeros(1, 16, 3, 4, 4)}
    given = told(native, prompts, vae, latent)
    assert all(a is b for a, b in zip(given, (*prompts, latent), strict=True))
