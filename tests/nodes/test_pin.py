"""PinFrames: images in a canvas, what is held, chains, and messages."""

from __future__ import annotations

import pytest
import torch

from patchdit.nodes import host
from patchdit.nodes.fitting import fit_frames, fit_with_edges, picture_box, surround
from patchdit.nodes.footage import encode_clip, encode_ending
from patchdit.nodes.latent_dicts import PINS
from patchdit.nodes.pin import PinFrames
from patchdit.nodes.sampling import begin, sample


@pytest.fixture
def canvas():
    """17 frames of 32x48 pixels."""
    return {"samples": torch.zeros(1, 16, 5, 4, 6), "downscale_ratio_spacial": 8, "video_fps": 8.0}


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.rand(9, 32, 48, 3)


def pin(latent, vae, images, frame=0, strength=1.0, fit="crop", mask=None):
    return PinFrames.execute(latent, vae, images, frame, strength, fit, mask).args[:2]


def test_first_image_is_the_image_latent(canvas, vae, images):
    before = canvas["samples"].clone()
    latent, report = pin(canvas, vae, images[:1])
    assert torch.equal(latent["samples"][:, :, :1], encode_clip(vae, images[:1]))
    assert not latent["samples"][:, :, 1:].any()
    assert latent["noise_mask"].flatten(3)[0, 0, :, 0].tolist() == [0, 1, 1, 1, 1]
    assert latent["video_fps"] == 8 and "downscale_ratio_spacial" not in latent
    assert report == "Pinned frame 0 at strength 1 (held to the end)."
    assert torch.equal(canvas["samples"], before) and "noise_mask" not in canvas


@pytest.mark.parametrize("frame", [-1, 13, 16])
def test_a_later_image_holds_its_group_as_a_still_end(canvas, vae, images, frame):
    latent, report = pin(canvas, vae, images[:1], frame)
    still = encode_ending(vae, images[:1].expand(4, -1, -1, -1))
    assert torch.equal(latent["samples"][:, :, 4:], still)
    assert latent["noise_mask"].mean((0, 1, 3, 4)).tolist() == [1, 1, 1, 1, 0]
    assert "frames 13 to 16 are pinned together" in report


def test_runs_of_images_move(canvas, vae, images):
    start, report = pin(canvas, vae, images)
    assert torch.equal(start["samples"][:, :, :3], encode_clip(vae, images))
    assert report == "Pinned frames 0 to 8 at strength 1 (held to the end)."
    end, report = pin(canvas, vae, images[:8], -8)
    assert torch.equal(end["samples"][:, :, 3:], encode_ending(vae, images[:8]))
    assert "\n" not in report
    inside, report = pin(canvas, vae, images[:4], 7)
    held = images[[0, 0, 0, 1, 2, 3, 3, 3]]
    assert torch.equal(inside["samples"][:, :, 2:4], encode_ending(vae, held))
    assert "frames 5, 6, 11, 12." in report


def test_pins_chain_and_the_sampler_keeps_them(canvas, model, vae, prompts, images):
    latent, _ = pin(canvas, vae, images[:1])
    latent, _ = pin(latent, vae, images[1:2], 8)
    latent, _ = pin(latent, vae, images[2:3], -1)
    assert latent["noise_mask"].mean((0, 1, 3, 4)).tolist() == [0, 1, 0, 1, 0]
    assert latent[PINS] == ((0, 0), (8, 8), (16, 16))
    made = sample(begin(model, *prompts, 2.0, latent, torch.tensor([1.0, 0.5, 0.0]), 3))["samples"]
    known = latent["noise_mask"].expand_as(made) == 0
    assert torch.allclose(made[known], latent["samples"][known], atol=1e-5)
    assert not torch.allclose(made[~known], latent["samples"][~known], atol=0.1)


@pytest.mark.parametrize("strength", [1.0, 0.75, 0.05])
def test_mask_is_one_less_strength(canvas, vae, images, strength):
    latent, report = pin(canvas, vae, images[:1], 4, strength)
    assert torch.allclose(latent["noise_mask"][:, :, 1], torch.tensor(1 - strength))
    assert (latent["noise_mask"][:, :, [0, 2, 3, 4]] == 1).all()
    assert f"strength {strength:g}" in report


def test_a_region_counts_in_whole_patches(canvas, vae, images):
    mask = torch.zeros(32, 48)
    mask[:, 10:40] = 1  # holds the columns 16 .. 31 of patches of 16
    latent, report = pin(canvas, vae, images[:1], 0, 0.5, mask=mask)
    expected = torch.tensor([1, 1, 0.5, 0.5, 1, 1]).expand(4, 6)
    assert torch.equal(latent["noise_mask"][0, 0, 0], expected)
    assert "in part" in report
    other, _ = pin(latent, vae, images[1:2], 0, mask=1 - mask.roll(8, 1))
    assert other["noise_mask"][0, 0, 0, 0].tolist() == [0, 0, 0.5, 0.5, 1, 1]


def test_regions_that_do_not_overlap_share_a_frame(canvas, vae, images):
    left = torch.zeros(1, 32, 48)
    left[..., :16] = 1
    latent, _ = pin(canvas, vae, images[:1], 5, mask=left)
    latent, _ = pin(latent, vae, images[1:2], 7, mask=left.flip(2))
    assert latent["noise_mask"][0, 0, 2, 0].tolist() == [0, 0, 1, 1, 0, 0]
    first, second = (encode_ending(vae, images[[i] * 4])[:, :, 0] for i in (0, 1))
    assert torch.equal(latent["samples"][:, :, 2, :, :2], first[..., :2])
    assert torch.equal(latent["samples"][:, :, 2, :, 4:], second[..., 4:])


def test_pad_leaves_the_bars_to_the_model(canvas, vae, images):
    latent, _ = pin(canvas, vae, images[:1, :, :16], fit="pad")
    assert latent["noise_mask"][0, 0, 0, 0].tolist() == [1, 1, 0, 0, 1, 1]
    edges = surround(images[:1, :, :16], (32, 48), 0, 16)
    assert torch.equal(latent["samples"][:, :, 0, :, 2:4], encode_clip(vae, edges)[:, :, 0, :, 2:4])


def test_a_mask_of_another_size_but_the_same_shape_is_scaled(canvas, vae, images):
    mask = torch.zeros(1, 64, 96)
    mask[..., :32] = 1
    latent, _ = pin(canvas, vae, images[:1], mask=mask)
    assert latent["noise_mask"][0, 0, 0, 0].tolist() == [0, 0, 1, 1, 1, 1]


def test_a_batch_gets_the_pin_in_every_video(vae, images):
    latent, _ = pin({"samples": torch.zeros(2, 16, 5, 4, 6)}, vae, images[:1])
    assert torch.equal(latent["samples"][0], latent["samples"][1])
    assert (latent["noise_mask"][:, :, 0] == 0).all() and latent["noise_mask"].shape[0] == 2


def test_bad_input_is_told_in_one_sentence(canvas, vae, images):
    one = images[:1]
    with pytest.raises(ValueError, match="strength is 0;"):
        pin(canvas, vae, one, strength=0.0)
    with pytest.raises(ValueError, match=r"is 17 for 1 image; .* takes 0 to 16, or -17 to -1"):
        pin(canvas, vae, one, 17)
    with pytest.raises(ValueError, match="mask is 32x32 and the image 48x32"):
        pin(canvas, vae, one, mask=torch.ones(1, 32, 32))
    with pytest.raises(ValueError, match="mask has 2 frames for 3 images"):
        pin(canvas, vae, images[:3], mask=torch.ones(2, 32, 48))
    with pytest.raises(ValueError, match="no whole patch of 16x16"):
        pin(canvas, vae, one, mask=torch.zeros(1, 32, 48))
    with pytest.raises(ValueError, match="fit is 'bend'; need one of crop, pad, stretch"):
        pin(canvas, vae, images[:1, :16], fit="bend")
    with pytest.raises(ValueError, match="8 channels"):
        pin({"samples": torch.zeros(1, 8, 5, 4, 6)}, vae, one)


def test_two_pins_on_one_latent_frame(canvas, vae, images):
    latent, _ = pin(canvas, vae, images[:1], 6)
    with pytest.raises(ValueError, match=r"frame 8, too near .* \(frame 6\): .* frames 5 to 8\."):
        pin(latent, vae, images[:1], 8)
    with pytest.raises(ValueError, match="pin on frames 0 to 8, too near"):
        pin(latent, vae, images, 0)


def test_fits():
    torch.manual_seed(0)
    frames = torch.rand(2, 20, 30, 3)
    assert fit_frames(frames, (20, 30), "crop") is frames
    for fit in ("crop", "pad", "stretch"):
        for size in ((10, 30), (40, 16), (7, 5), (33, 64)):
            fitted = fit_frames(frames, size, fit)
            assert fitted.shape == (2, *size, 3) and fitted.min() >= 0 and fitted.max() <= 1
    assert torch.allclose(  # half the size: means of 2x2 pixels
        fit_frames(frames, (10, 15), "stretch"),
        frames.unflatten(1, (10, 2)).unflatten(3, (15, 2)).mean((2, 4)),
        atol=1e-6,
    )
    assert torch.equal(fit_frames(frames, (20, 20), "crop"), frames[:, :, 5:25])
    padded = fit_frames(frames, (30, 30), "pad")
    assert torch.equal(padded[:, 5:25], frames)
    assert not padded[:, :5].any() and not padded[:, 25:].any()
    edges = fit_with_edges(frames, (30, 30), "pad")
    assert torch.equal(edges[:, 0], frames[:, 0]) and torch.equal(edges[:, -1], frames[:, -1])
    assert picture_box((20, 30), (30, 30), "pad") == (5, 0, 20, 30)
    assert torch.allclose(
        fit_frames(torch.full((1, 9, 7, 1), 0.5), (20, 40), "crop"), frames.new_tensor(0.5)
    )


def test_host_offers_the_grid(vae):
    assert host.spatial_stride(vae) == 8  # what the sizes in this file rest on


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(36, 64), (40, 24), (1, 50), (29, 30)])
@pytest.mark.parametrize("into", [(16, 29), (17, 29), (30, 30), (1, 1)])
def test_every_fit_gives_just_the_size_that_was_asked_for(fit, size, into):
    """Also where a bar is a single pixel wide."""
    assert fit_frames(torch.rand(1, *size, 3), into, fit).shape == (1, *into, 3)
