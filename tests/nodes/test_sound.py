"""Sound stays in time: exact lengths, untouched samples, no clicks at joins."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchdit.nodes.sound import join, place, resample, silence, without_beginning

RATE = 1000
times = st.fractions(0, 2, max_denominator=120) | st.floats(0, 2)


def sound(samples, rate=RATE, channels=1, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    waveform = torch.rand(batch, channels, samples, generator=generator) + 0.1  # never 0
    return {"waveform": waveform, "sample_rate": rate}


def tone(seconds, rate, hertz=300.0):
    """A tone that swells and fades, so that its ends hold nothing."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    swell = torch.sin(math.pi * time / seconds) ** 2
    return (torch.sin(2 * math.pi * hertz * time) * swell).float().view(1, 1, -1)


def length(audio):
    return audio["waveform"].shape[-1]


def test_silence_is_like_its_model():
    like = {"waveform": torch.ones(2, 3, 5, dtype=torch.float64), "sample_rate": 441}
    quiet = silence(Fraction(1, 3), like)
    assert quiet["waveform"].shape == (2, 3, 147) and quiet["waveform"].dtype == torch.float64
    assert quiet["sample_rate"] == 441 and not quiet["waveform"].any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 900), st.fractions(-1, 2, max_denominator=24), times)
def test_place_shifts_bit_for_bit(samples, start, total):
    audio = sound(samples)
    placed = place(audio, start, total)["waveform"][0, 0]
    assert len(placed) == round(Fraction(total) * RATE)
    offset = round(start * RATE)
    source = audio["waveform"][0, 0]
    for index in range(0, len(placed), 7):
        inside = 0 <= index - offset < samples
        assert placed[index] == (source[index - offset] if inside else 0)


def test_place_keeps_nothing_for_nobody():
    assert place(None, 1.0, 2.0) is None
    audio = sound(10)
    assert torch.equal(place(audio, 0, 0.01)["waveform"], audio["waveform"])


@pytest.mark.parametrize("seconds", [0, Fraction(1, 3), 1.0, 2.0])
def test_what_is_left_without_a_beginning_is_bit_for_bit(seconds):
    audio = sound(1000)
    left = without_beginning(audio, seconds)["waveform"]
    assert torch.equal(left, audio["waveform"][..., round(seconds * RATE) :])
    assert without_beginning(None, seconds) is None


@st.composite
def segments(draw):
    kinds = draw(st.lists(st.sampled_from(["exact", "short", "long", "none"]), max_size=7))
    parts = []
    for seed, kind in enumerate(kinds):
        seconds = draw(times)
        samples = math.ceil(Fraction(seconds) * RATE)
        share = {"exact": 1.0, "short": 0.4, "long": 1.7, "none": 0.0}[kind]
        audio = None if kind == "none" else sound(round(samples * share), seed=seed)
        parts.append((audio, seconds))
    return parts


@settings(max_examples=80, deadline=None)
@given(segments(), st.sampled_from([0.0, 0.02, 0.3]))
def test_joined_durations_add_up_and_samples_stay(parts, crossfade):
    joined = join(parts, crossfade)
    if all(audio is None for audio, _ in parts):
        assert joined is None
        return
    assert length(joined) == round(sum(Fraction(seconds) for _, seconds in parts) * RATE)
    half = round(Fraction(crossfade) * RATE) // 2
    out, time = joined["waveform"][0, 0], Fraction(0)
    for audio, seconds in parts:
        begin, time = round(time * RATE), time + Fraction(seconds)
        end = round(time * RATE)
        expected = torch.zeros(end - begin)
        if audio is not None:
            source = audio["waveform"][0, 0, : end - begin]
            expected[: len(source)] = source
        low = half if audio is not None and begin else 0
        high = end - begin - (half if audio is not None and end < len(out) else 0)
        if high > low:
            assert torch.equal(out[begin:end][low:high], expected[low:high])


@settings(max_examples=40, deadline=None)
@given(segments())
def test_a_fade_is_never_louder_than_what_it_fades(parts):
    loudest = max((a["waveform"].max().item() for a, _ in parts if a and length(a)), default=0.0)
    joined = join(parts, 0.1)
    if joined is not None and length(joined):
        assert joined["waveform"].min() >= 0 and joined["waveform"].max() <= loudest * (1 + 1e-6)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ((1000, 1000), None),
        ((1100, 500), None),  # a tenth of a second is what files often hold
        ((3500, 1000), "goes on 2.50 s after"),
        ((3500, 2250), "goes on 2.50 s and 1.25 s after"),
    ],
)
def test_sound_beyond_the_end_of_its_clip_is_cut_with_a_word(caplog, samples, said):
    first, second = map(sound, samples)
    joined = join([(first, 1.0), (None, 0.5), (second, 1)], 0.0)
    assert length(joined) == 2500
    assert len(caplog.records) == (said is not None)
    assert said is None or said in caplog.messages[0]


def flat(level, samples=200, channels=1, rate=RATE):
    return {"waveform": torch.full((1, channels, samples), level), "sample_rate": rate}


def test_a_join_of_two_sounds_is_a_linear_crossfade():
    joined = join([(flat(1.0), 0.2), (flat(0.0), 0.2)], 0.02)["waveform"][0, 0]
    ramp = 1 - (torch.arange(20) + 0.5) / 20
    assert torch.equal(joined[:190], torch.ones(190)) and not joined[210:].any()
    assert torch.allclose(joined[190:210], ramp)


def test_what_sounded_goes_on_with_its_own_next_samples():
    """One sound cut in two: the first part's fading end is the second part's beginning."""
    whole = sound(400)
    second = {**whole, "waveform": whole["waveform"][..., 200:]}
    first = {**whole, "waveform": whole["waveform"][..., :300]}
    out = join([(first, 0.2), (second, 0.2)], 0.02)["waveform"]
    assert torch.allclose(out[..., 200:], whole["waveform"][..., 200:])


def test_without_more_sound_it_is_mirrored():
    one, two = sound(200, seed=1), sound(200, seed=2)
    out = join([(one, 0.2), (two, 0.2)], 0.02)["waveform"][0, 0]
    a, b = one["waveform"][0, 0], two["waveform"][0, 0]
    ramp = (torch.arange(20) + 0.5) / 20
    old = torch.cat([a[190:], a[190:].flip(0)])
    new = torch.cat([b[:10].flip(0), b[:10]])
    assert torch.allclose(out[190:210], old * (1 - ramp) + new * ramp)


def test_a_join_with_silence_fades_inside_the_sound():
    out = join([(None, 0.2), (flat(1.0), 0.2), (None, 0.2)], 0.02)["waveform"][0, 0]
    ramp = (torch.arange(10) + 0.5) / 10
    assert not out[:200].any() and not out[400:].any()
    assert torch.equal(out[200:210], ramp) and torch.equal(out[390:400], ramp.flip(0))
    assert torch.equal(out[210:390], torch.ones(180))


def test_no_fade_at_the_ends_of_the_whole():
    audio = sound(200)
    assert torch.equal(join([(audio, 0.2)])["waveform"], audio["waveform"])


def test_segments_of_no_time_do_not_hide_a_join():
    with_nothing = join([(flat(1.0), 0.2), (flat(0.5), 0), (None, 0.0), (flat(0.0), 0.2)])
    without = join([(flat(1.0), 0.2), (flat(0.0), 0.2)])
    assert torch.equal(with_nothing["waveform"], without["waveform"])


def test_a_short_segments_fades_do_not_overlap():
    out = join([(flat(0.0), 0.2), (flat(1.0), 0.011), (flat(0.0), 0.2)], 0.2)["waveform"][0, 0]
    assert out[205] == 1.0 and out.max() == 1.0


@pytest.mark.parametrize(("channels", "level"), [(1, 0.5), (2, 0.5), (6, 0.5)])
def test_channels_follow_the_first_sound(channels, level):
    stereo = flat(0.0, 200, 2)
    stereo["waveform"][:, 1] = 1.0
    out = join([(flat(0.25, 200, channels), 0.2), (stereo, 0.2)])["waveform"]
    assert out.shape == (1, channels, 400)
    expected = torch.tensor([0.0, 1.0]) if channels == 2 else torch.full((channels,), level)
    assert torch.equal(out[0, :, 300], expected)


def test_batches_of_one_are_spread():
    two = sound(200, batch=2)
    out = join([(flat(0.5), 0.2), (two, 0.2)])["waveform"]
    assert out.shape == (2, 1, 400) and torch.equal(out[..., 210:], two["waveform"][..., 10:])
    assert torch.equal(
        join([(two, 0.2), (flat(0.5), 0.2)])["waveform"][:, 0, 399], torch.ones(2) / 2
    )


@pytest.mark.parametrize(
    ("old", "new"), [(8000, 12000), (44100, 48000), (48000, 44100), (8000, 7999)]
)
def test_another_rate_is_the_same_sound(old, new):
    out = resample(tone(0.5, old), old, new)
    expected = tone(0.5, new)
    assert abs(out.shape[-1] - expected.shape[-1]) <= 1
    n = min(out.shape[-1], expected.shape[-1])
    assert (out[..., :n] - expected[..., :n]).abs().max() < 1e-4


def test_what_the_new_rate_cannot_hold_is_removed():
    assert resample(tone(0.5, 48000, 9000.0), 48000, 16000).abs().max() < 1e-3


def test_resampling_keeps_level_and_length():
    steady = torch.ones(1, 2, 4410)
    out = resample(steady, 44100, 48000)
    assert out.shape == (1, 2, 4800) and (out[..., 1000:3800] - 1).abs().max() < 0.01
    assert resample(steady, 44100, 44100) is steady
    assert resample(steady[..., :0], 44100, 48000).shape == (1, 2, 0)


def test_rates_follow_the_first_sound():
    first = {"waveform": tone(0.5, 8000), "sample_rate": 8000}
    second = {"waveform": tone(0.5, 12000), "sample_rate": 12000}
    joined = join([(None, 0.25), (second, 0.5), (first, 0.5)])
    assert joined["sample_rate"] == 12000 and length(joined) == 15000
    again = joined["waveform"][..., 9000:]
    assert (again - tone(0.5, 12000))[..., 200:].abs().max() < 1e-4


def test_other_entries_and_inputs_are_kept():
    audio = {**sound(100), "title": "x"}
    before = audio["waveform"].clone()
    for out in (join([(audio, 0.1), (audio, 0.1)]), place(audio, 0.5, 1), silence(1, audio)):
        assert out["title"] == "x" and out is not audio
    assert torch.equal(audio["waveform"], before)


def test_changing_the_result_leaves_the_input_alone():
    audio = sound(100)
    before = audio["waveform"].clone()
    for out in (join([(audio, 0.1)]), place(audio, 0, 0.1)):
        out["waveform"].zero_()
    assert torch.equal(audio["waveform"], before)


def test_empty_sound_counts_as_sound():
    out = join([(sound(0), 0.1), (None, 0.1)])
    assert length(out) == 200 and not out["waveform"].any()
    assert join([]) is None and join([(None, 1.0)]) is None


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda: silence(-1, sound(1)), "Silence lasts -1 seconds; need 0 or more"),
        (lambda: place(sound(1), 0, math.inf), "The whole lasts inf"),
        (lambda: join([(sound(1), 1), (None, -2)]), "Segment 2 lasts -2 seconds"),
        (lambda: join([(sound(1), 1)], -0.1), "The crossfade lasts"),
        (lambda: join([(sound(1), math.nan)]), "Segment 1 lasts nan"),
        (lambda: join([(sound(1, batch=2), 1), (sound(1, batch=3), 1)]), "batch 3 and 2"),
        (lambda: silence(1, {"waveform": torch.zeros(1, 5), "sample_rate": 8}), r"shape \(1, 5\)"),
        (lambda: silence(1, {"waveform": torch.zeros(1, 1, 5), "sample_rate": 0}), "at 0 samples"),
    ],
)
def test_bad_input_is_one_sentence(action, said):
    with pytest.raises(ValueError, match=said) as caught:
        action()
    assert "\n" not in str(caught.value)
