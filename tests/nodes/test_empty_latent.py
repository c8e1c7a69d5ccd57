"""EmptyVideoLatent and how LATENT dicts are read."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from patchdit.models.config import VAE_PRESETS
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes import host
from patchdit.nodes.empty_latent import EmptyVideoLatent
from patchdit.nodes.latent_dicts import (
    frames_for,
    latent_length,
    mask_of,
    real_frames,
    samples_of,
    usual_cell,
)

DEFAULTS = dict(
    aspect="width x height",
    width=64,
    height=64,
    length_in="frames",
    seconds=2.0,
    frames=17,
    fps=8.0,
    batch_size=1,
)


def empty(**changes):
    return EmptyVideoLatent.execute(**{**DEFAULTS, **changes}).args


def test_size_and_length():
    latent, frames, fps = empty(width=112, height=64, frames=33, batch_size=3, fps=12.0)
    assert latent["samples"].shape == (3, 16, 9, 8, 14)
    assert (frames, fps, latent["video_fps"]) == (33, 12.0, 12.0)


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [("1:1 square", (8, 8)), ("3:2 landscape", (8, 12)), ("2:3 portrait", (12, 8))],
)
def test_aspect_keeps_the_short_side(aspect, shape):
    latent, *_ = empty(aspect=aspect, width=64, height=512)
    assert latent["samples"].shape[-2:] == shape


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.0, 1), (0.1, 1), (1.0, 9), (2.0, 17), (4.1, 33)]
)
def test_seconds_give_the_nearest_length(seconds, frames):
    assert empty(length_in="seconds", seconds=seconds)[1] == frames == frames_for(seconds, 8.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(width=0), "multiple of 16 pixels; got 0, nearest 16"),
        (dict(width=70, aspect="1:1 square"), "width is a multiple of 16 pixels; got 70"),
        (dict(height=70), "height is a multiple of 16 pixels; got 70, nearest 64 or 80"),
        (dict(frames=0), "1 \\+ 4k frames; got 0, nearest 1"),
        (dict(frames=2), "got 2, nearest 1 or 5"),
        (dict(frames=7), "got 7, nearest 5 or 9"),
        (dict(width=1 << 17, height=1 << 17), "GiB"),
        (dict(frames=4_000_001), "GiB"),
        (dict(batch_size=0), "at least one video"),
        (dict(aspect="5:1"), "'5:1'; need one of"),
    ],
)
def test_bad_sizes_are_one_sentence(changes, said):
    with pytest.raises(ValueError, match=said) as caught:
        empty(**changes)
    assert "\n" not in str(caught.value)


def wan_vae(version):
    """The autoencoder of Wan, narrow and with random weights."""
    config = replace(VAE_PRESETS[f"wan{version}"], encoder_width=8, decoder_width=8)
    return host.make_vae(VideoVAE(config))


@pytest.mark.parametrize(
    ("version", "shape"), [("2.1", (1, 16, 2, 8, 12)), ("2.2", (1, 48, 2, 4, 6))]
)
def test_with_a_vae_it_is_the_latent_of_a_clip_of_that_size(version, shape):
    vae = wan_vae(version)
    latent, *_ = empty(vae=vae, width=96, height=64, frames=5)
    assert latent["samples"].shape == vae.encode(torch.zeros(5, 64, 96, 3)).shape == shape
    assert latent["downscale_ratio_spacial"] * shape[-1] == 96


def test_without_a_vae_it_is_as_with_that_of_wan_21():
    plain, *rest = empty()
    told, *told_rest = empty(vae=wan_vae("2.1"))
    assert torch.equal(plain.pop("samples"), told.pop("samples"))
    assert (plain, rest) == (told, told_rest)


def test_a_vae_of_larger_cells_has_a_coarser_grid():
    vae = wan_vae("2.2")
    with pytest.raises(ValueError, match="height is a multiple of 32 pixels; got 720, nearest 704"):
        empty(vae=vae, width=1280, height=720)
    latent, *_ = empty(vae=vae, aspect="7:4 wide", width=128, height=64)
    assert latent["samples"].shape[-2:] == (4, 8)  # 128 pixels, where 16 wide steps give 112


LTX = SimpleNamespace(
    latent_channels=128,
    temporal_compression_decode=lambda: 8,
    spacial_compression_decode=lambda: 32,
)


def test_with_ltxs_vae_cells_are_32_pixels_and_eight_frames():
    latent, frames, _ = empty(vae=LTX, width=704, height=480, frames=97)
    assert latent["samples"].shape == (1, 128, 13, 15, 22) and frames == 97
    assert latent["downscale_ratio_spacial"] == 32
    assert empty(vae=LTX, length_in="seconds", seconds=2.0)[1] == 17  # 9 and 17 are 1 + 8k
    for changes, said in (
        ({"frames": 21}, "A clip has 1 \+ 8k frames; got 21, nearest 17 or 25"),
        ({"height": 720}, "height is a multiple of 32 pixels; got 720"),
    ):
        with pytest.raises(ValueError, match=said):
            empty(vae=LTX, **changes)


@pytest.mark.parametrize(
    ("said_by_vae", "said"),
    [
        (dict(latent_dim=2, latent_channels=16), "This VAE is not for video"),
        (dict(temporal_compression_decode=lambda: None), "does not say how many frames"),
        (dict(spacial_compression_decode=lambda: 8), "does not say how many channels"),
    ],
)
def test_a_vae_that_does_not_fit_is_refused(said_by_vae, said):
    with pytest.raises(ValueError, match=said) as caught:
        empty(vae=SimpleNamespace(**said_by_vae))
    assert "\n" not in str(caught.value)


def test_samples_of_refuses_broken_latents():
    good = torch.zeros(1, 16, 2, 4, 4)
    assert samples_of({"samples": good[:, :, 0]}).shape == (1, 16, 1, 4, 4)
    bad = good.clone()
    bad[0, 0, 0, 0, :2] = torch.tensor([float("nan"), float("inf")])
    with pytest.raises(ValueError, match="2 values that are not numbers"):
        samples_of({"samples": bad})
    with pytest.raises(ValueError, match=r"16 channels, .* has 48"):
        samples_of({"samples": good}, 48)
    with pytest.raises(ValueError, match="shape"):
        samples_of({"samples": good[0, 0]})


def test_latents_of_ltxs_channels_have_groups_of_eight():
    cells = [usual_cell(channels) for channels in (12, 16, 32, 48, 128)]
    assert cells == [(6, 8), (4, 8), (4, 8), (4, 16), (8, 32)]
    latent = {"samples": torch.zeros(1, 128, 3, 1, 1), "video_frames": 10}
    assert real_frames(latent) == 10 and real_frames({**latent, "video_frames": 9}) == 17
    assert real_frames(latent, 4) == 9  # as a VAE says whose groups are of four
    shape = (1, 128, 3, 2, 2)
    mask_FHW = torch.zeros(17, 64, 64)
    mask_FHW[8, 40, 3], mask_FHW[9, 3, 40] = 1, 1
    mask = mask_of({"noise_mask": mask_FHW}, shape)
    assert mask is not None and [*map(tuple, mask[0, 0].nonzero().tolist())] == [
        (1, 1, 0),
        (2, 0, 1),
    ]
    with pytest.raises(ValueError, match="mask has 9 frames; a latent of 3 frames needs 17"):
        mask_of({"noise_mask": torch.ones(9, 64, 64)}, shape)


def test_real_length_counts_only_while_it_can_be_true():
    latent = {"samples": torch.zeros(1, 16, 3, 4, 4)}
    assert real_frames(latent) == 9
    assert real_frames({**latent, "video_frames": 6}) == 6
    assert real_frames({**latent, "video_frames": 5}) == 9  # another node made it longer since


def test_masks_of_pixel_frames_map_to_the_latent_grid():
    shape = (2, 16, 3, 4, 4)
    mask_FHW = torch.zeros(9, 32, 32)
    mask_FHW[8, 31, 31] = 1
    mask = mask_of({"noise_mask": mask_FHW[:, None]}, shape)
    assert mask is not None and mask.shape == (2, 1, 3, 4, 4)
    assert mask[:, 0, 2, 3, 3].tolist() == [1, 1] and mask.sum() == 2
    still = mask_of({"noise_mask": torch.ones(1, 32, 32)}, shape)
    assert still is not None and still.all()
    own = torch.ones(2, 1, 3, 4, 4)
    own[1, :, 0] = 0
    assert torch.equal(mask_of({"noise_mask": own}, shape), own)
    assert mask_of({}, shape) is None


@pytest.mark.parametrize("frames", [7, 5])
def test_masks_of_another_length_are_refused(frames):
    with pytest.raises(ValueError, match=f"{frames}"):
        mask_of({"noise_mask": torch.ones(frames, 32, 32)}, (1, 16, 3, 4, 4))


def test_latent_length_is_exact():
    assert [latent_length(n) for n in (1, 5, 17, 33)] == [1, 2, 5, 9]
