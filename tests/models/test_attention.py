"""Attention that stays inside its clip, by the fastest backend; modulation by timestep."""

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
    sdpa,
)
from patchdit.models.blocks import TimeTable


def test_packed_clips_see_only_themselves():
    q, k, v = torch.randn(3, 1, 2, 5, 8)
    seen = [KeysValues(k[:, :, :2], v[:, :, :2]), KeysValues(k[:, :, 2:], v[:, :, 2:])]
    packed = attend_by_clip(sdpa, q, (2, 3), seen)
    apart = [sdpa(q[:, :, s], k[:, :, s], v[:, :, s]) for s in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(packed, torch.cat(apart, 2))


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
