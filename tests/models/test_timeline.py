"""Frames and latents, frame rates, and the encoding of a clip's end."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchdit.models.config import VAEConfig
from patchdit.models.timeline import (
    STRIDE,
    encode_suffix,
    first_pixel_frame,
    frames_back,
    latent_frames,
    latent_of_frame,
    pixel_frames,
    places_after,
    places_between,
    whole_groups,
)
from patchdit.models.video_vae import VideoVAE

RATES = st.sampled_from([6.0, 8.0, 12.0, 16.0, 24.0, 25.0, 30.0, 60.0])


def test_a_latent_stands_for_one_frame_and_then_for_four():
    assert [pixel_frames(t) for t in (1, 2, 9)] == [1, 5, 33]
    assert [first_pixel_frame(j) for j in range(4)] == [0, 1, 5, 9]
    assert [latent_frames(pixel_frames(t)) for t in range(1, 50)] == list(range(1, 50))


def test_ltx_has_groups_of_eight():
    assert [pixel_frames(t, 8) for t in (1, 2, 13)] == [1, 9, 97]
    assert [first_pixel_frame(j, 8) for j in range(4)] == [0, 1, 9, 17]
    assert [latent_of_frame(f, 8) for f in (0, 1, 8, 9, 16)] == [0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match=r"21 frames: the count must be 1 \+ 8k"):
        latent_frames(21, 8)


@given(st.integers(1, 12), st.integers(1, 40))
def test_every_frame_belongs_to_one_latent(stride, latents):
    frames = pixel_frames(latents, stride)
    assert latent_frames(frames, stride) == latents
    held = [
        range(first_pixel_frame(j, stride), pixel_frames(j + 1, stride)) for j in range(latents)
    ]
    assert [frame for group in held for frame in group] == list(range(frames))
    assert {len(group) for group in held[1:]} <= {stride} and len(held[0]) == 1
    assert all(frame in held[latent_of_frame(frame, stride)] for frame in range(frames))


@given(st.integers(1, 12), st.integers(1, 40))
def test_whole_groups_repeat_the_last_frame_and_no_more(stride, frames):
    grown = whole_groups(torch.arange(frames), stride)
    assert grown.tolist() == [*range(frames), *[frames - 1] * (len(grown) - frames)]
    assert (len(grown) - 1) % stride == 0 and len(grown) - frames < stride


@pytest.mark.parametrize("frames", [-3, 0, 2, 3, 4, 6, 32])
def test_other_counts_are_refused(frames):
    with pytest.raises(ValueError, match=rf"{frames} frames: the count must be 1 \+ 4k"):
        latent_frames(frames)


def test_24_fps_seen_at_8_takes_every_third_frame_back_from_the_last():
    assert frames_back(20, 24, 8, 5) == [7, 10, 13, 16, 19]
    assert frames_back(8, 24, 8, 5) == [1, 4, 7]  # the clip begins before there are five
    assert frames_back(5, 8, 8, 5) == [0, 1, 2, 3, 4]
    assert frames_back(1, 24, 8, 9) == [0]


@settings(deadline=None)
@given(st.integers(1, 200), RATES, RATES, st.integers(1, 60))
def test_frames_back_end_with_the_last_and_never_run_back(frames, fps, at_fps, wanted):
    places = frames_back(frames, fps, at_fps, wanted)
    assert places[-1] == frames - 1 and places == sorted(places)
    assert 1 <= len(places) <= wanted and places[0] >= 0
    whole = places[0] - fps / at_fps < 0.5  # else the clip held one more
    assert len(places) == wanted or whole
    for back, place in enumerate(reversed(places)):
        assert abs((frames - 1 - place) / fps - back / at_fps) <= 0.5 / fps + 1e-9


@settings(deadline=None)
@given(st.integers(1, 200), RATES, RATES)
def test_places_after_keep_the_time(count, fps, at_fps):
    places = places_after(count, fps, at_fps)
    assert len(places) == count
    assert all(abs(place / at_fps - (i + 1) / fps) < 1e-9 for i, place in enumerate(places))


@settings(deadline=None)
@given(st.integers(1, 80), RATES, RATES)
def test_places_between_are_even_and_inside(made, fps, at_fps):
    places = (0.0, *places_between(made, fps, at_fps), made + 1.0)
    steps = [b - a for a, b in pairwise(places)]
    assert max(steps) - min(steps) < 1e-6 and min(steps) > 0
    assert places_between(made, 8, 8) == tuple(float(i + 1) for i in range(made))


def vae_of(halvings):
    """A VAE that halves time so often."""
    space, time = (True,) + (False,) * (halvings - 1), (True,) * halvings
    sizes = {"spatial_downsample": space, "temporal_downsample": time}
    means = {"latent_mean": (0.0,) * 16, "latent_std": (1.0,) * 16}
    torch.manual_seed(0)
    multipliers = (1,) + (2,) * halvings
    widths = {"encoder_width": 16, "decoder_width": 16, "width_multipliers": multipliers}
    return VideoVAE(VAEConfig(**widths, blocks=1, **sizes, pixel_patch=4, layout="mini", **means))


@pytest.fixture(scope="module")
def vae():
    return vae_of(2)


def test_a_suffix_is_the_end_of_the_encoding_behind_a_still_of_its_first_frame(vae):
    torch.manual_seed(1)
    end = torch.rand(1, 3, 8, 16, 16) * 2 - 1
    still = end[:, :, :1].expand(-1, -1, 1 + STRIDE * 2, -1, -1)
    with torch.no_grad():
        whole = vae.encode(torch.cat([still, end], 2))
        suffix = encode_suffix(vae, end)
    assert whole.shape[2] == 5 and torch.equal(suffix, whole[:, :, 3:])


def test_a_suffix_of_groups_of_eight():
    vae = vae_of(3)
    torch.manual_seed(1)
    end = torch.rand(1, 3, 16, 16, 16) * 2 - 1
    with torch.no_grad():
        whole = vae.encode(torch.cat([end[:, :, :1].expand(-1, -1, 1 + 8 * 2, -1, -1), end], 2))
        suffix = encode_suffix(vae, end, stride=vae.temporal_stride)
    assert whole.shape[2] == 5 and torch.equal(suffix, whole[:, :, 3:])
    with pytest.raises(ValueError, match="suffix of 12 frames: the count must be a multiple of 8"):
        encode_suffix(vae, end[:, :, :12], stride=8)


def test_a_still_suffix_does_not_depend_on_a_longer_lead_in(vae):
    """The frames before a suffix are told apart from its own: only its own change it."""
    torch.manual_seed(2)
    end = (torch.rand(1, 3, 1, 16, 16) * 2 - 1).expand(-1, -1, 4, -1, -1)
    with torch.no_grad():
        long, longer = encode_suffix(vae, end, lead=6), encode_suffix(vae, end, lead=9)
    assert torch.allclose(long, longer, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 3, 5, 7])
def test_a_suffix_has_4k_frames(vae, frames):
    with pytest.raises(ValueError, match=f"suffix of {frames} frames: the count must be a mult"):
        encode_suffix(vae, torch.zeros(1, 3, frames, 16, 16))
