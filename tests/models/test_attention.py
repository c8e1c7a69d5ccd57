"""Rotary embedding in closed form, and attention that stays inside its clip."""

import math

import pytest
import torch

from patchdit.models.attention import KeysValues, attend_by_clip, rotary_tables, rotate, sdpa


def angle_of(place: int, head: int, position: tuple[int, int, int]) -> float:
    """The angle of one pair of a head, by the rule as written in the paper's terms."""
    side = 2 * (head // 6)
    widths = (head - 2 * side, side, side)
    for width, p in zip(widths, position, strict=True):
        if place < width // 2:
            return p * 10000 ** (-2 * place / width)
        place -= width // 2
    raise AssertionError


@pytest.mark.parametrize("head", [16, 128])
def test_pairs_turn_by_the_angle_of_their_axis(head):
    position = (5, -3, 7)
    x = torch.randn(1, 1, 1, head)
    turned = rotate(x, rotary_tables(torch.tensor([position]), head))[0, 0, 0]
    for k in range(head // 2):
        angle = angle_of(k, head, position)
        a, b = x[0, 0, 0, 2 * k : 2 * k + 2].tolist()
        assert turned[2 * k].item() == pytest.approx(
            a * math.cos(angle) - b * math.sin(angle), abs=1e-5
        )
        assert turned[2 * k + 1].item() == pytest.approx(
            a * math.sin(angle) + b * math.cos(angle), abs=1e-5
        )


def test_scores_depend_on_the_difference_of_positions_only():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 32)

    def score(at, other):
        turned_q = rotate(q, rotary_tables(torch.tensor([at]), 32))
        turned_k = rotate(k, rotary_tables(torch.tensor([other]), 32))
        return (turned_q * turned_k).sum()

    near = score([3, 1, 2], [1, 4, 0])
    torch.testing.assert_close(near, score([903, -9, 2002], [901, -6, 2000]), atol=1e-4, rtol=0)
    assert (near - score([3, 1, 2], [1, 4, 1])).abs() > 1e-3


def test_packed_clips_see_only_themselves():
    q, k, v = torch.randn(3, 1, 2, 5, 8)
    seen = [KeysValues(k[:, :, :2], v[:, :, :2]), KeysValues(k[:, :, 2:], v[:, :, 2:])]
    packed = attend_by_clip(sdpa, q, (2, 3), seen)
    apart = [sdpa(q[:, :, s], k[:, :, s], v[:, :, s]) for s in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(packed, torch.cat(apart, 2))
