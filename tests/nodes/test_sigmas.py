"""FlowSigmas with and without a model: whose shift it takes, and that an odd one is told."""

from __future__ import annotations

from math import exp

import pytest
import torch

from patchdit.models.solvers import shift_for, shifted_sigmas
from patchdit.nodes.host.facts import boundary_of, shift_of
from patchdit.nodes.sigmas import FlowSigmas

from .test_fill import CONFIGS, core, network_model

SMALL = {"samples": torch.zeros(1, 16, 9, 16, 16)}
WAN = {"samples": torch.zeros(1, 1, 21, 60, 104)}  # 81 frames of 832x480


def sigmas_of(latent, shift=0.0, **model):
    return FlowSigmas.execute(latent, 4, 1.0, shift, **model).args[0]


class ModelSamplingDiscreteFlow:
    def __init__(self, shift):
        self.shift = shift

    def sigma(self, t):
        """As core has it."""
        return self.shift * t / (1 + (self.shift - 1) * t)


class ModelSamplingFlux(ModelSamplingDiscreteFlow):
    def sigma(self, t):
        """As core has it, for LTXV too."""
        return exp(self.shift) / (exp(self.shift) + (1 / t - 1))


def patcher(kind, sampling):
    """A MODEL of core's class `kind` and with core's schedule, as far as their shift is read."""
    model = core(kind)
    model.get_model_object = {"model_sampling": sampling}.__getitem__
    return model


@pytest.mark.parametrize(
    ("kind", "sampling"),
    [
        ("WAN21", ModelSamplingDiscreteFlow(8.0)),
        ("WAN21", ModelSamplingDiscreteFlow(5.0)),  # by core's node ModelSamplingSD3
        ("LTXV", ModelSamplingFlux(2.37)),
        ("LTXV", type("ModelSampling", (ModelSamplingFlux,), {})(1.15)),
    ],
)
def test_a_models_levels_are_those_of_its_own_schedule(kind, sampling):
    made = sigmas_of(WAN, model=patcher(kind, sampling))
    own = [sampling.sigma(t) for t in (1.0, 0.75, 0.5, 0.25)]
    torch.testing.assert_close(made, torch.tensor([*own, 0.0]))


def test_a_model_without_a_shift_has_even_levels():
    made = sigmas_of(WAN, model=patcher("Other", object()))
    assert torch.equal(made, shifted_sigmas(4, 1.0))


def test_our_own_model_changes_nothing(model):
    assert torch.equal(sigmas_of(SMALL, model=model), sigmas_of(SMALL))
    assert shift_of(model, 576) == shift_for(576)


def test_a_shift_that_is_set_counts(model):
    assert torch.equal(sigmas_of(SMALL, 3.0, model=model), shifted_sigmas(4, 3.0))


def test_blockworlds_rule_at_wans_size_is_told(caplog, model):
    sigmas_of(SMALL)
    sigmas_of(WAN, 8.0)
    sigmas_of(WAN, model=model)
    assert not caplog.records
    sigmas_of(WAN)
    assert "for 32760 tokens is 121; connect the model" in caplog.text


@pytest.mark.parametrize(("kind", "boundary"), [("wan", 0.9), ("vace", 0.875)])
def test_the_boundary_goes_by_the_image_channels(parts, kind, boundary):
    assert boundary_of(network_model(parts, CONFIGS[kind])) == boundary


def test_the_boundary_of_cores_models(model):
    assert boundary_of(core("WAN21", weight=36)) == 0.9
    assert boundary_of(core("WAN21", weight=16)) == boundary_of(model) == 0.875
