"""Sound that stays with the picture: AUDIO shifted, padded with silence, joined without clicks.

AUDIO is {"waveform": [B,C,S], "sample_rate": samples per second}: B batch, C channels, S samples.
Times are seconds, best given as Fractions (frames / fps). Nothing here changes an input.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import gcd, isfinite
from typing import Any

import torch
from torch import Tensor

Audio = dict[str, Any]
Seconds = float | Fraction

CROSSFADE = 0.02  # seconds: long enough against clicks, too short to hear as a fade
SPARE = 0.1  # seconds: files often hold so little more sound than picture, which nobody misses


def silence(seconds: Seconds, like: Audio) -> Audio:
    """`seconds` of silence with the rate, channels, batch, dtype and device of another AUDIO."""
    like_BCS, rate = _parts(like)
    samples = _count(seconds, rate, "Silence")
    return {**like, "waveform": like_BCS.new_zeros(*like_BCS.shape[:2], samples)}


def place(audio: Audio | None, start_seconds: Seconds, total_seconds: Seconds) -> Audio | None:
    """The sound from `start_seconds` on in round(total_seconds * rate) samples; None stays None.

    Silence elsewhere; what reaches past the end is cut off. A start below 0 cuts the beginning off.
    Samples are copied as they are, with no fade.
    """
    if audio is None:
        return None
    waveform_BCS, rate = _parts(audio)
    total = _count(total_seconds, rate, "The whole")
    start = _samples(start_seconds, rate)
    placed_BCS = waveform_BCS.new_zeros(*waveform_BCS.shape[:2], total)
    piece_BCS = waveform_BCS[..., max(0, -start) : max(0, total - start)]
    first = max(0, start)
    placed_BCS[..., first : first + piece_BCS.shape[-1]] = piece_BCS
    return {**audio, "waveform": placed_BCS}


def without_beginning(audio: Audio | None, seconds: Seconds) -> Audio | None:
    """The sound from `seconds` on, which are 0 or more, to its own end; None stays None."""
    if audio is None:
        return None
    waveform_BCS, rate = _parts(audio)
    return {**audio, "waveform": waveform_BCS[..., _count(seconds, rate, "The beginning") :]}


def join(
    parts: Sequence[tuple[Audio | None, Seconds]], crossfade_seconds: Seconds = CROSSFADE
) -> Audio | None:
    """Segments (their sound or None, their seconds) one after another; None if none has sound.

    The whole has exactly round(sum of seconds * rate) samples and each segment begins at its
    rounded time, so that nothing drifts. Sound shorter than its segment ends in silence; longer is
    cut, which the log says. Rate, channels, dtype and batch follow the first sound; see `resample`.

    At a join of two sounds, half of `crossfade_seconds` to either side is a linear crossfade: what
    sounded goes on (with its own next samples, else mirrored) while the other fades in. Linear,
    because it never exceeds the louder of the two, and so cannot clip. A join with silence fades
    inside the sounding segment only. All samples outside of these zones stay bit for bit.
    """
    first = next((audio for audio, _ in parts if audio is not None), None)
    if first is None:
        return None
    first_BCS, rate = _parts(first)
    edges = [0]
    time = Fraction(0)
    for number, (_, seconds) in enumerate(parts, 1):
        _count(seconds, rate, f"Segment {number}")
        time += Fraction(seconds)
        edges.append(_samples(time, rate))
    sounds = [None if audio is None else _like(audio, first) for audio, _ in parts]
    _warn_of_cuts(sounds, edges, rate)
    batch = max(sound.shape[0] for sound in sounds if sound is not None)
    whole_BCS = first_BCS.new_zeros(batch, first_BCS.shape[1], edges[-1])
    pieces = []
    for sound_BCS, (begin, end) in zip(sounds, pairwise(edges), strict=True):
        if sound_BCS is not None:
            kept = min(end - begin, sound_BCS.shape[-1])
            whole_BCS[..., begin : begin + kept] = sound_BCS[..., :kept]
        if end > begin:  # a segment of no time joins nothing
            pieces.append((sound_BCS, begin, end))
    half = _count(crossfade_seconds, rate, "The crossfade") // 2
    _fade_joins(whole_BCS, pieces, half)
    return {**first, "waveform": whole_BCS}


def resample(waveform_BCS: Tensor, old: int, new: int) -> Tensor:
    """The same sound at another rate, ceil(S * new / old) samples.

    Ideal band limiting through the Fourier transform: what both rates can hold is exact but for
    rounding, what lies above is removed. Sound that starts or stops at once rings a little there.
    """
    if old == new:
        return waveform_BCS
    samples = waveform_BCS.shape[-1]
    unit_old, unit_new = old // gcd(old, new), new // gcd(old, new)
    units = -(-(samples + old // 10) // unit_old)  # a tenth of silence, so that no end wraps round
    spectrum = torch.fft.rfft(waveform_BCS.float(), n=units * unit_old)
    kept = min(units * unit_old, units * unit_new) // 2
    spectrum[..., kept:] = 0  # the top bin too: at Nyquist the two rates disagree on its phase
    changed = torch.fft.irfft(spectrum, n=units * unit_new) * (unit_new / unit_old)
    return changed[..., : -(-samples * unit_new // unit_old)].to(waveform_BCS.dtype)


def _warn_of_cuts(sounds: Sequence[Tensor | None], edges: list[int], rate: int) -> None:
    """One log line with the seconds by which sounds reach beyond their segments, if they matter."""
    lost = [
        (sound_BCS.shape[-1] - (end - begin)) / rate
        for sound_BCS, (begin, end) in zip(sounds, pairwise(edges), strict=True)
        if sound_BCS is not None
    ]
    said = " and ".join(f"{seconds:.2f} s" for seconds in lost if seconds > SPARE)
    if said:
        logging.warning("Sound that goes on %s after the end of its clip is cut off there.", said)


def _fade_joins(whole_BCS: Tensor, pieces: list[tuple[Tensor | None, int, int]], half: int) -> None:
    """Fade `whole_BCS` in place at every join; `pieces` are (sound, begin, end) without gaps."""
    for (before, start, at), (after, _, end) in pairwise(pieces):
        n = min(half, (at - start) // 2, (end - at) // 2)  # zones of one segment never overlap
        if n == 0 or (before is None and after is None):
            continue
        left, right = whole_BCS[..., at - n : at], whole_BCS[..., at : at + n]
        if before is None or after is None:
            ramp_S = _ramp(n, whole_BCS)
            if after is None:
                whole_BCS[..., at - n : at] = left * ramp_S.flip(-1)
            else:
                whole_BCS[..., at : at + n] = right * ramp_S
            continue
        goes_on = before[..., at - start : at - start + n]
        if goes_on.shape[-1] < n:
            goes_on = left.flip(-1)
        old_BCS = torch.cat([left, goes_on.expand_as(left)], dim=-1)
        new_BCS = torch.cat([right.flip(-1), right], dim=-1)
        whole_BCS[..., at - n : at + n] = old_BCS.lerp(new_BCS, _ramp(2 * n, whole_BCS))


def _ramp(samples: int, like: Tensor) -> Tensor:
    """Rising from just above 0 to just below 1, symmetric."""
    steps = torch.arange(samples, device=like.device) + 0.5
    return (steps / samples).to(like.dtype)


def _like(audio: Audio, first: Audio) -> Tensor:
    """An AUDIO's waveform_BCS with the rate, channels, dtype and device of the first."""
    (waveform_BCS, rate), (first_BCS, first_rate) = _parts(audio), _parts(first)
    batches = waveform_BCS.shape[0], first_BCS.shape[0]
    if batches[0] != batches[1] and 1 not in batches:
        raise ValueError(f"Sounds of batch {batches[0]} and {batches[1]} cannot be joined.")
    waveform_BCS = waveform_BCS.to(first_BCS)
    channels = first_BCS.shape[1]
    if waveform_BCS.shape[1] != channels:
        mono_BCS = waveform_BCS.mean(dim=1, keepdim=True)
        waveform_BCS = mono_BCS.expand(-1, channels, -1)
    return resample(waveform_BCS, rate, first_rate)


def _parts(audio: Audio) -> tuple[Tensor, int]:
    waveform_BCS, rate = audio["waveform"], int(audio["sample_rate"])
    if waveform_BCS.ndim != 3 or waveform_BCS.shape[1] == 0 or rate < 1:
        raise ValueError(
            f"AUDIO has a waveform of shape {tuple(waveform_BCS.shape)} at {rate} samples per"
            " second; need (batch, channels, samples) and a rate above 0."
        )
    return waveform_BCS, rate


def _count(seconds: Seconds, rate: int, what: str) -> int:
    if not isfinite(seconds) or seconds < 0:
        raise ValueError(f"{what} lasts {seconds} seconds; need 0 or more.")
    return _samples(seconds, rate)


def _samples(seconds: Seconds, rate: int) -> int:
    """The sample nearest to a time."""
    return round(Fraction(seconds) * rate)
