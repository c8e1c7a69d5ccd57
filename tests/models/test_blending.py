"""One scene turning into another: weights, mixed predictions, and a zone laid into windows."""

from __future__ import annotations

import pytest
import torch

from patchdit.models.blending import (
    Zone,
    blend_zone,
    lay_zone,
    mix_frames,
    mixed_over_time,
    rising_weights,
)
from patchdit.models.extend import bridge


def test_weights_rise_evenly_between_the_frames_around_a_zone():
    assert rising_weights(3).tolist() == [0.25, 0.5, 0.75]
    assert rising_weights(1).tolist() == [0.5]


def test_mixing_is_exact_at_both_ends_and_the_mean_half_way():
    first, second = torch.randn(2, 1, 4, 3, 2, 2).unbind()
    mixed = mix_frames(first, second, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(mixed[:, :, 0], first[:, :, 0])
    assert torch.equal(mixed[:, :, 2], second[:, :, 2])
    torch.testing.assert_close(mixed[:, :, 1], (first[:, :, 1] + second[:, :, 1]) / 2)


def test_each_frame_is_denoised_as_its_scene_is():
    x, sigma = torch.randn(1, 4, 5, 2, 2), torch.tensor([0.5])
    seen = []

    def scene(factor):
        def denoise(x_BCTHW, sigma):
            seen.append((x_BCTHW, sigma))
            return factor * x_BCTHW

        return denoise

    weights = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    out = mixed_over_time(scene(1.0), scene(3.0), weights)(x, sigma)
    torch.testing.assert_close(out, x * (1 + 2 * weights)[:, None, None])
    assert len(seen) == 2
    assert all(given is x and level is sigma for given, level in seen)


def test_a_zone_fades_from_one_scene_to_the_other():
    zone = blend_zone(torch.zeros(1, 2, 3, 2, 2), torch.ones(1, 2, 3, 2, 2))
    assert zone.start_BCTHW[0, 0, :, 0, 0].tolist() == [0.25, 0.5, 0.75]
    with pytest.raises(ValueError, match="need one shape"):
        blend_zone(torch.zeros(1, 2, 3, 2, 2), torch.zeros(1, 2, 4, 2, 2))


@pytest.mark.parametrize("window", [4, 5, 6, 12])
def test_the_windows_of_a_bridge_lay_the_zone_once_and_in_order(window):
    new = 5
    start = torch.arange(1.0, new + 1).view(1, 1, new, 1, 1).expand(1, 2, new, 2, 2)
    zone = Zone(start, rising_weights(new))
    at, weights = 0, []

    def fill(latent, mask):
        nonlocal at
        before = latent.clone()
        first = at
        laid, weight_T, at = lay_zone(latent, mask, zone, at)
        assert torch.equal(latent, before)
        assert torch.equal(laid[mask.expand_as(laid) == 0], latent[mask.expand_as(laid) == 0])
        free = mask[0, 0, :, 0, 0] == 1
        assert torch.equal(weight_T[free], zone.weight_T[first:at])
        weights.append(weight_T)
        return laid

    front, head = torch.full((1, 2, 1, 2, 2), -1.0), torch.full((1, 2, 2, 2, 2), -2.0)
    sequence = bridge(front, head, new, window, 2, fill, lambda clip: clip[:, :, -1:])
    assert sequence[0, 0, :, 0, 0].tolist() == [-1, 1, 2, 3, 4, 5, -2, -2]
    assert weights[0][0] == 0 and weights[-1][-2:].tolist() == [1, 1]
    assert (len(weights) == 1) == (window >= 8)


def test_a_window_that_asks_for_more_than_the_zone_has_is_refused():
    zone = Zone(torch.zeros(1, 2, 2, 2, 2), rising_weights(2))
    with pytest.raises(ValueError, match="the zone has 1 left"):
        lay_zone(torch.zeros(1, 2, 3, 2, 2), torch.ones(1, 1, 3, 2, 2), zone, 1)
    mask = torch.ones(1, 1, 3, 2, 2)
    mask[:, :, 1] = 0
    with pytest.raises(ValueError, match="stand together"):
        lay_zone(torch.zeros(1, 2, 3, 2, 2), mask, zone, 0)
