"""Rotary embedding in closed form; three ways to turn, of which each makes the same."""

import math

import pytest
import torch

from patchdit.models import rotary
from patchdit.models.rotary import (
    angle_dtype,
    rotary_table,
    rotate,
    rotate_by_sums,
    rotate_complex,
    rotate_in_place,
)

WAYS = rotate_complex, rotate_by_sums, rotate_in_place
HALF_TYPES = torch.bfloat16, torch.float16


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
    turned = rotate(x, rotary_table(torch.tensor([position]), head))[0, 0, 0]
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
        turned_q = rotate(q, rotary_table(torch.tensor([at]), 32))
        turned_k = rotate(k, rotary_table(torch.tensor([other]), 32))
        return (turned_q * turned_k).sum()

    near = score([3, 1, 2], [1, 4, 0])
    torch.testing.assert_close(near, score([903, -9, 2002], [901, -6, 2000]), atol=1e-4, rtol=0)
    assert (near - score([3, 1, 2], [1, 4, 1])).abs() > 1e-3


def pairs_and_table(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 240, 3, 32, generator=generator).to(dtype)
    return x.unflatten(-1, (-1, 2)), rotary_table(torch.arange(720).view(240, 3), 32)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, *HALF_TYPES])
def test_each_way_turns_by_the_same_angles_and_leaves_its_input(way, dtype):
    """Half types: to float32 and back is off by one rounding, without float32 by two at most."""
    pairs, table = pairs_and_table(dtype)
    before = pairs.clone()
    turned, exact = way(pairs, table), rotate_by_sums(pairs.double(), table)
    assert turned.dtype == dtype and torch.equal(pairs, before)
    rounding = torch.finfo(dtype).eps / 2
    length = pairs.double().norm(dim=-1, keepdim=True)  # of a pair, which no product in it exceeds
    roundings = 2 if dtype in HALF_TYPES and way is rotate_in_place else 1
    loose = 1.01 if dtype in HALF_TYPES else 3  # products in float32 are rounded too
    assert ((turned - exact).abs() <= roundings * loose * rounding * length).all()


@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_without_float32_the_error_grows_by_a_quarter(dtype):
    pairs, table = pairs_and_table(dtype)
    exact = rotate_by_sums(pairs.double(), table)
    errors = [(way(pairs, table) - exact).pow(2).mean().sqrt() for way in WAYS]
    assert errors[0] == errors[1] and 1.1 < errors[2] / errors[0] < 1.3


def test_gradients_turn_back():
    """A rotation's transpose is its inverse."""
    pairs, table = pairs_and_table()
    x = pairs.flatten(-2).requires_grad_()
    gradient = torch.randn_like(x)
    rotate(x, table).backward(gradient)
    back = rotate_by_sums(gradient.unflatten(-1, (-1, 2)), table * torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(x.grad, back.flatten(-2))


@pytest.mark.parametrize(
    ("device", "dtype", "trains", "compiled", "way"),
    [
        ("cpu", torch.float32, False, False, rotate_complex),
        ("cpu", torch.bfloat16, True, False, rotate_complex),
        ("cpu", torch.float32, False, True, rotate_by_sums),
        ("meta", torch.bfloat16, False, False, rotate_in_place),
        ("meta", torch.float32, False, False, rotate_in_place),
        ("meta", torch.bfloat16, True, False, rotate_by_sums),
        ("meta", torch.bfloat16, False, True, rotate_by_sums),
    ],
)
def test_which_way(monkeypatch, device, dtype, trains, compiled, way):
    """A meta tensor stands for one on a device that is not known to have complex numbers."""
    taken = []
    for each in WAYS:
        monkeypatch.setattr(rotary, each.__name__, lambda *a, w=each: taken.append(w) or w(*a))
    monkeypatch.setattr(rotary, "is_compiling", lambda: compiled)
    x = torch.randn(1, 5, 3, 32, device=device, dtype=dtype).requires_grad_(trains)
    table = rotary_table(torch.arange(15).view(5, 3), 32).to(device)
    assert rotate(x, table).shape == x.shape
    with torch.no_grad():
        rotate(x, table)
    assert taken[0] is way
    assert taken[1] is (rotate_in_place if way is rotate_by_sums and not compiled else way)


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cpu", torch.float64),
        ("cuda", torch.float64),
        ("mps", torch.float32),
        ("xpu", torch.float32),
    ],
)
def test_angles_are_double_only_where_every_device_of_the_kind_has_doubles(device, dtype):
    assert angle_dtype(torch.device(device)) is dtype
