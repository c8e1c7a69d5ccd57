"""Seams in closed form: clips whose brightness, colour, sharpness and steps are known."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchdit.models.seams import FrameMeasures, judge, measure


def greys(*levels, size=(4, 6)):
    """A clip of flat grey frames."""
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, *size, 3)


def noise(frames, seed=0):
    return torch.rand(frames, 5, 7, 3, generator=torch.Generator().manual_seed(seed))


def near(value):
    return pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("colour", "brightness", "cb", "cr"),
    [
        ((0.0, 0.0, 0.0), 0.0, 0.0, 0.0),
        ((1.0, 1.0, 1.0), 1.0, 0.0, 0.0),
        ((1.0, 0.0, 0.0), 0.2126, -0.2126 / 1.8556, 0.5),
        ((0.0, 1.0, 0.0), 0.7152, -0.7152 / 1.8556, -0.7152 / 1.5748),
        ((0.0, 0.0, 1.0), 0.0722, 0.5, -0.0722 / 1.5748),
    ],
)
def test_primaries_are_those_of_rec_709(colour, brightness, cb, cr):
    m = measure(torch.tensor(colour).expand(1, 4, 4, 3))
    assert m.brightness_F.item() == near(brightness)
    assert (m.cb_F.item(), m.cr_F.item()) == (near(cb), near(cr))
    assert m.saturation_F.item() == near((cb**2 + cr**2) ** 0.5)
    assert m.sharpness_F.item() == 0 and m.step_F.item() == 0


def test_saturation_sees_colours_that_cancel_out():
    frame = torch.full((1, 2, 2, 3), 0.5)
    frame[:, 0, :, 2], frame[:, 1, :, 2] = 0.6, 0.4
    m = measure(frame)
    assert m.cb_F.item() == near(0.0) and m.saturation_F.item() > 0.05


def test_sharpness_is_the_rms_difference_of_neighbours():
    stripes = torch.zeros(1, 4, 5, 3)
    stripes[:, :, ::2] = 0.5  # 16 differences of 0.5 along the rows, 15 of 0 down the columns
    assert measure(stripes).sharpness_F.item() == near((16 * 0.25 / 31) ** 0.5)
    assert measure(torch.ones(1, 1, 1, 3)).sharpness_F.item() == 0
    assert measure(stripes * 0.5).sharpness_F.item() < measure(stripes).sharpness_F.item()


def test_steps_are_differences_to_the_frame_before_and_wrap_round():
    m = measure(greys(0.1, 0.3, 0.25, 0.5))
    assert m.step_F.tolist() == [near(0.4), near(0.2), near(0.05), near(0.25)]
    assert len(m) == 4


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any))
def test_any_chunking_is_bit_equal(counts):
    clip = noise(sum(counts))
    whole, pieces = measure(clip), measure(iter(clip.split(counts)))
    for field in fields(FrameMeasures):
        assert torch.equal(getattr(whole, field.name), getattr(pieces, field.name)), field.name


def test_alpha_and_half_precision_are_read_as_rgb():
    clip = noise(3)
    rgba = torch.cat([clip, torch.zeros(3, 5, 7, 1)], dim=-1)
    assert torch.equal(measure(rgba).step_F, measure(clip).step_F)
    assert (measure(clip.half()).step_F - measure(clip).step_F).abs().max() < 1e-3


def test_a_seam_is_held_against_the_clips_own_steps():
    """Own steps 0.01 ... 0.2 but for the seam's: the 95th percentile of nineteen is exact."""
    steps = [k / 100 for k in range(1, 21)]
    steps[6] = 0.3  # into frame 7
    levels = [0.0]
    for index, step in enumerate(steps):
        levels.append(levels[-1] + (step if index % 2 else -step))
    report = judge(measure(greys(*levels)), [7])
    own = sorted(steps[:6] + steps[7:])
    p95 = own[17] + 0.1 * (own[18] - own[17])  # 0.95 * 18 = 17.1
    assert report.compared == 19 and report.p95 == near(p95)
    assert report.bound == near(p95 + 1 / 255)
    assert report.seams[0].step == near(0.3) and not report.passes
    assert "visible" in report.table() and "passes" not in report.table()


@pytest.mark.parametrize(("extra", "passes"), [(0.9, True), (1.1, False)])
def test_the_bound_is_one_level_above(extra, passes):
    levels = [0.1, 0.2, 0.3, 0.4 + extra / 255, 0.5 + extra / 255]
    assert judge(measure(greys(*levels)), [3]).passes is passes


def test_own_steps_lie_inside_the_known_clips():
    m = measure(greys(0.0, 0.1, 0.2, 0.9, 0.1, 0.5, 0.52))
    report = judge(m, [3, 5], own=[(0, 3), (5, 7)])
    assert report.compared == 3  # into 1, 2 and 6
    assert report.p95 == near(0.1)
    assert judge(m, [3, 5], own=[(0, 3)]).compared == 2
    alone = judge(m, [1], own=[(0, 1)])
    assert (alone.compared, alone.bound) == (0, near(1 / 255))


def test_a_seam_inside_a_known_clip_is_not_its_own_step():
    m = measure(greys(0.0, 0.01, 0.9, 0.91))
    assert judge(m, [2], own=[(0, 4)]).compared == 2


def test_a_loop_is_judged_from_last_to_first():
    m = measure(greys(0.1, 0.2, 0.3, 0.2))
    good = judge(m, loop=True)
    assert good.passes and [s.frame for s in good.seams] == [0]
    assert judge(m).passes and judge(m).seams == ()
    bad = judge(measure(greys(0.1, 0.2, 0.3, 0.4)), loop=True)
    assert not bad.passes and bad.seams[0].step == near(0.3) and "wrap" in bad.table()


def test_segments_and_their_drift():
    m = measure(greys(0.1, 0.2, 0.5, 0.5, 0.45))
    first, second, third = judge(m, [4, 2, 2]).segments
    assert [(s.first, s.last) for s in (first, second, third)] == [(0, 1), (2, 3), (4, 4)]
    assert (first.brightness, second.brightness) == (near(0.15), near(0.5))
    assert first.drift is None and second.drift.brightness == near(0.35)
    assert third.drift.brightness == near(0.3)
    assert first.motion == near(0.1) and second.motion == 0 and third.motion != third.motion
    assert second.drift.motion == near(-1.0)
    assert second.drift.sharpness != second.drift.sharpness  # flat: no sharpness to lose
    by_previous = judge(m, [2, 4], reference="previous")
    assert by_previous.segments[2].drift.brightness == near(-0.05)
    assert by_previous.worst_drift() == (2, "brightness", near(0.35))


def test_colour_drift_is_the_largest_of_three():
    clip = greys(0.5, 0.5).clone()
    clip[1, ..., 0] += 0.1
    report = judge(measure(clip), [1])
    assert report.worst_drift()[:2] == (2, "chroma")
    assert report.segments[1].drift.chroma == near(math.hypot(0.1 * 0.5, 0.1 * 0.2126 / 1.8556))


def test_blurring_is_a_loss_of_sharpness():
    clip = noise(1).expand(4, -1, -1, -1).clone()
    clip[2:] = 0.5 + 0.5 * (clip[2:] - 0.5)
    drift = judge(measure(clip), [2]).segments[1].drift
    assert drift.sharpness == near(-0.5)


def test_nothing_drifts_in_one_segment():
    report = judge(measure(noise(5)))
    assert report.worst_drift() == (1, "brightness", 0.0) and report.passes
    assert "No seams" in report.table() and "drift" not in report.table()


def test_one_frame():
    report = judge(measure(noise(1)))
    assert report.passes and report.compared == 0 and "| -" in report.table().replace("  ", "")


def test_tables_line_up():
    report = judge(measure(noise(12)), [3, 10], loop=True)
    blocks = [b for b in report.table(8.0).split("\n\n") if b.startswith("|")]
    assert len(blocks) == 3 and "frame 10 (1.25 s)" in blocks[0]
    for block in blocks:
        assert len({len(line) for line in block.splitlines()}) == 1
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_results_are_frozen():
    report = judge(measure(noise(2)), [1])
    with pytest.raises(FrozenInstanceError):
        report.seams[0].step = 0.0


def broken():
    clip = noise(4)
    clip[2, 0, 0, 0] = float("nan")
    return clip


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda: measure(noise(2)[:0]), "no frames"),
        (lambda: measure(iter([])), "no frames"),
        (lambda: measure(broken()), "Frame 2 holds .* not numbers"),
        (lambda: measure([noise(1), torch.zeros(1, 4, 4, 3)]), "Frame 1 is 4x4 pixels, .* 7x5"),
        (lambda: measure(torch.zeros(1, 4, 4, 3, dtype=torch.uint8)), "floating point"),
        (lambda: measure(torch.zeros(1, 4, 4)), r"need \(height, width, 3\)"),
        (lambda: judge(measure(noise(4)), [4]), "Seam 4 lies outside .* 4 frames; .* 1 to 3"),
        (lambda: judge(measure(noise(4)), [0]), "Seam 0 lies outside"),
        (lambda: judge(measure(noise(4)), [-1]), "Seam -1 lies outside"),
        (lambda: judge(measure(noise(1)), [1]), "Seam 1 lies outside"),
        (lambda: judge(measure(noise(1)), loop=True), "at least 2 frames, .* switch loop off"),
        (lambda: judge(measure(noise(4)), own=[(0, 5)]), "Own frames 0 to 5 lie outside"),
        (lambda: judge(measure(noise(4)), own=[(2, 2)]), "Own frames 2 to 2"),
        (lambda: judge(measure(noise(4)), reference="last"), "'last'; need one of first"),
    ],
)
def test_bad_input_is_one_sentence(action, said):
    with pytest.raises(ValueError, match=said) as caught:
        action()
    assert "\n" not in str(caught.value)
