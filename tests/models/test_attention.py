"""Rotary embedding in closed form, and attention that stays inside its clip."""

import math
from itertools import count

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend

from patchdit.models import attention
from patchdit.models.attention import (
    KeysValues,
    attend_by,
    attend_by_clip,
    chosen_backend,
    fastest_backend,
    may_measure,
    rotary_tables,
    rotate,
    sdpa,
)
from patchdit.models.blocks import TimeTable


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


def test_turning_leaves_its_input_and_the_half_types_lose_one_rounding_only():
    x = torch.randn(2, 5, 3, 32).bfloat16()
    before, tables = x.clone(), rotary_tables(torch.arange(15).view(5, 3), 32)
    turned = rotate(x, tables)
    assert torch.equal(x, before)
    assert torch.equal(turned, rotate(x.float(), tables))


@pytest.mark.parametrize("runs", [1, 4])
def test_norm_scale_shift_is_what_it_says(runs):
    """With one timestep for all in one pass, with several in two."""
    torch.manual_seed(0)
    x, rows = torch.randn(2, 8, 6), torch.randn(runs, 2, 6)
    index = torch.arange(runs).expand(2, runs)
    table = TimeTable.of(rows, index, per_token=False)
    scale, shift = table.vectors(torch.zeros(1, 2, 6))
    made = table.norm_scale_shift(x, scale, shift, 1e-6)
    x, rows = x.double(), rows.double().repeat_interleave(8 // runs, 0).expand(-1, 2, 6)
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(made, (normed * (1 + rows[:8, 0]) + rows[:8, 1]).float())


def test_one_timestep_is_one_row_however_it_is_said():
    rows, zeros = torch.randn(1, 2, 6), torch.zeros(2, 8, dtype=torch.long)
    tables = [TimeTable.of(rows, index, per) for index in (zeros, zeros[:, :1]) for per in (0, 1)]
    assert all(t.index_B1L is None and torch.equal(t.rows[0, 0], rows) for t in tables)


def short_qkv():
    return torch.randn(3, 1, 2, 16, 8, generator=torch.Generator().manual_seed(0))


def test_on_the_cpu_torch_chooses(monkeypatch):
    monkeypatch.setattr(attention, "LONG", 1)
    monkeypatch.setattr(attention, "fastest_backend", lambda *_: pytest.fail("measured"))
    q, k, v = short_qkv()
    assert torch.equal(sdpa(q, k, v), F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ([1.0, 0.5, 0.4, 0.6], SDPBackend.EFFICIENT_ATTENTION),
        ([1.0, 0.97, 0.98, 0.99], None),  # no more than noise
        ([1.0, None, None, 0.9], SDPBackend.CUDNN_ATTENTION),
        ([1.0, None, None, None], None),  # which only torch's own choice can do
    ],
)
def test_the_clearly_fastest_backend(monkeypatch, seconds, best):
    times = iter(seconds)

    def measured(work, device):
        taken = next(times)
        if taken is None:
            raise RuntimeError("No available kernel.")
        return taken

    monkeypatch.setattr(attention, "least_seconds", measured)
    assert fastest_backend(*short_qkv()) is best


def test_a_backend_that_cannot_is_passed_over():
    """A CPU has no memory-efficient and no cuDNN attention."""
    q, k, v = short_qkv()
    with pytest.raises(RuntimeError):
        attend_by(SDPBackend.CUDNN_ATTENTION, q, k, v)
    assert fastest_backend(q, k, v) in (None, SDPBackend.FLASH_ATTENTION)


def test_a_class_of_shapes_is_measured_once(monkeypatch):
    calls = count()
    monkeypatch.setattr(attention, "chosen", {})
    monkeypatch.setattr(attention, "fastest_backend", lambda *_: next(calls))
    q, k, v = short_qkv()
    assert [chosen_backend(q[:, :, :n], k, v) for n in (16, 16, 15, 8, 9)] == [0, 0, 1, 1, 1]
    assert chosen_backend(q.double(), k, v) == 2


def test_when_the_backend_is_ours_to_choose(monkeypatch):
    monkeypatch.setattr(attention, "LONG", 16 * 16)
    q, k, _ = short_qkv()
    assert may_measure(q, k) and not may_measure(q[:, :, 1:], k)
    assert not may_measure(q.clone().requires_grad_(), k)
    torch.use_deterministic_algorithms(True)
    try:
        assert not may_measure(q, k)
    finally:
        torch.use_deterministic_algorithms(False)


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
    assert attention.angle_dtype(torch.device(device)) is dtype
