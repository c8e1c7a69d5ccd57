"""Clips read from any wire, cut, encoded at any size, and given out again."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from patchdit.models.assembly import Given, Made
from patchdit.models.timeline import encode_suffix
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes import footage, host
from patchdit.nodes.api import InputImpl, Types
from patchdit.nodes.decode import DecodeVideo
from patchdit.nodes.encode import EncodeVideo
from patchdit.nodes.footage import (
    Footage,
    encode_clip,
    encode_ending,
    grid_of,
    last_frame_as_image,
    read_footage,
    same_rate,
    video_of,
)

from .conftest import VAE


def whole_clip(latent_1CTHW, size):
    return Made(latent_1CTHW, 0, 1 + 4 * (latent_1CTHW.shape[2] - 1), size=size)


def noise(frames, height=32, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frames, height, width, 3, generator=generator)


def sound(seconds, rate=1000):
    return {"waveform": torch.arange(round(seconds * rate)).float().view(1, 1, -1) / 1e4,
            "sample_rate": rate}  # fmt: skip


def decoded(vae, latent):
    return torch.cat(list(host.decode_frames(vae, latent)))


def video(frames, fps, audio=None):
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=frames, audio=audio, frame_rate=Fraction(fps))
    )


def test_images_a_video_and_a_latent_are_read_as_they_are(vae):
    frames = noise(5)
    images = read_footage(frames, vae, 12.0)
    assert torch.equal(images.frames_FHWC, frames) and images.fps == 12 and images.audio is None
    own, other = sound(5 / 24), sound(1)
    clip = read_footage(video(frames, 24, own), vae, 12.0)
    assert torch.equal(clip.frames_FHWC, frames) and clip.fps == 24 and clip.audio is own
    assert read_footage(video(frames, 24, own), vae, 12.0, other).audio is other
    latent = {"samples": encode_clip(vae, frames), "video_fps": 16.0}
    read = read_footage(latent, vae, 12.0)
    assert torch.equal(read.frames_FHWC, decoded(vae, latent["samples"])) and read.fps == 16
    assert read.latent_1CTHW is not None and torch.equal(read.latent_1CTHW, latent["samples"])


def test_alpha_is_left_out(vae):
    four = torch.cat([noise(2), torch.ones(2, 32, 32, 1)], -1)
    assert torch.equal(read_footage(four, vae, 8.0).frames_FHWC, four[..., :3])


def test_a_latent_that_holds_more_than_the_clip_is_cut_and_has_no_latents(vae):
    samples = encode_clip(vae, noise(5))
    clip = read_footage({"samples": samples, "video_frames": 3}, vae, 8.0)
    assert clip.frames == 3 and clip.latent_1CTHW is None
    assert torch.equal(clip.frames_FHWC, decoded(vae, samples)[:3])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (torch.zeros(0, 32, 32, 3), "has no frames"),
        (torch.zeros(2, 32, 32, 1), r"\(2, 32, 32, 1\)"),
        (torch.full((2, 32, 32, 3), float("nan")), "not numbers"),
        (torch.full((2, 32, 32, 3), float("inf")), "not numbers"),
        ({"samples": torch.full((1, 16, 2, 4, 4), float("nan"))}, "not numbers"),
        ({"samples": torch.zeros(2, 16, 2, 4, 4)}, "batch of 2 clips"),
        ({"samples": torch.zeros(1, 4, 2, 4, 4)}, "4 channels"),
        ({"samples": torch.zeros(1, 16, 2, 5, 4)}, "5 rows and 4 columns; need multiples of 2"),
        ({"samples": torch.zeros(16, 2)}, "LATENT has shape"),
    ],
)
def test_what_is_no_clip_is_refused(vae, given, says):
    with pytest.raises(ValueError, match=says) as caught:
        read_footage(given, vae, 8.0)
    assert "\n" not in str(caught.value)


def test_parts_take_their_sound_and_the_latents_that_hold_just_them(vae):
    frames, audio = noise(9), sound(9 / 8, 800)
    latent = encode_clip(vae, frames)
    clip = Footage(vae, frames, 8.0, audio, latent)
    assert clip.part(0, 9) is clip
    head = clip.part(0, 5)
    assert torch.equal(head.frames_FHWC, frames[:5])
    assert head.latent_1CTHW is not None and torch.equal(head.latent_1CTHW, latent[:, :, :2])
    assert head.audio is not None
    assert torch.equal(head.audio["waveform"], audio["waveform"][..., :500])
    assert clip.part(0, 4).latent_1CTHW is None and clip.part(4, 9).latent_1CTHW is None
    tail = clip.part(4, 9).audio
    assert tail is not None and torch.equal(tail["waveform"], audio["waveform"][..., 400:])


def test_rates_within_a_fiftieth_are_one():
    assert same_rate(29.97, 30) and same_rate(23.976, 24)
    assert not same_rate(24, 25) and not same_rate(8, 16)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 40), (1, 1), (50, 33)])
def test_any_size_is_encoded_whole_and_comes_back_cut(vae, height, width):
    frames = noise(5, height, width)
    latent = encode_clip(vae, frames)
    assert grid_of(vae) == 16
    assert latent.shape[3:] == tuple(2 * -(-side // 16) for side in (height, width))
    clip = video_of(vae, (whole_clip(latent, (height, width)),), 8.0, (height, width), None)
    shown = clip.get_components().images
    assert shown.shape == frames.shape and clip.get_dimensions() == (width, height)
    assert torch.equal(shown, decoded(vae, latent)[:, :height, :width])


def test_an_ending_is_encoded_as_a_suffix(vae):
    frames = noise(8)
    latent = encode_ending(vae, frames)
    with torch.no_grad():
        expected = encode_suffix(vae.first_stage_model, frames.movedim(-1, 0)[None] * 2 - 1)
    assert latent.shape[2] == 2 and torch.allclose(latent, expected, atol=1e-4)


def test_an_ending_reaches_the_vae_bit_for_bit(vae, monkeypatch):
    frames, seen = noise(4) / 3, []  # 2 * x - 1 would round them
    monkeypatch.setattr(footage, "encode_clip", lambda _, given: seen.append(given) or given[None])
    encode_ending(vae, frames, lead=1)
    assert torch.equal(seen[0], frames[[0] * 6 + [1, 2, 3]])


@pytest.mark.parametrize("frames", [0, 3, 5])
def test_an_ending_is_whole_groups(vae, frames):
    with pytest.raises(ValueError, match=f"An ending of {frames} frames: .* multiple of 4"):
        encode_ending(vae, noise(5)[:frames])


def test_the_last_frame_of_latents_as_an_image(vae):
    latent = encode_clip(vae, noise(9))
    expected = encode_clip(vae, vae.decode(latent)[0, -1:])
    assert torch.allclose(last_frame_as_image(vae, latent), expected, atol=1e-5)


def test_a_video_of_pieces_is_lazy_and_saves_what_it_plays(vae, tmp_path, monkeypatch):
    frames = noise(3)
    latent = encode_clip(vae, noise(5, seed=1))
    pieces = Given(frames), whole_clip(latent, (32, 32)), Given(frames)
    calls, stream = [], type(vae).decode_stream
    monkeypatch.setattr(
        type(vae), "decode_stream", lambda self, x: calls.append(1) or stream(self, x)
    )
    clip = video_of(vae, pieces, 30000 / 1001, (32, 32), None)
    assert clip.get_frame_count() == 11 and clip.get_frame_rate() == Fraction(30000, 1001)
    assert not calls
    shown = clip.get_components().images
    assert torch.equal(shown[:3], frames) and torch.equal(shown[-3:], frames) and calls == [1]


def test_what_says_no_rate_has_that_of_its_family(parts):
    """A latent of core's nodes carries none: Wan's would play at half its speed at Blockworld's."""
    rates = {}
    for layout in ("mini", "wan2.1"):
        vae = host.make_vae(VideoVAE(replace(VAE, layout=layout)).eval())
        latent = {"samples": torch.zeros(1, 16, 1, 4, 4)}
        (video,) = DecodeVideo.execute(latent, vae, 0.0).args[0]
        encoded, _, fps = EncodeVideo.execute(noise(1), vae, "pad", 0.0).args
        rates[layout] = video.get_frame_rate(), encoded["video_fps"], fps
    assert rates == {"mini": (8, 8, 8), "wan2.1": (16, 16, 16)}
