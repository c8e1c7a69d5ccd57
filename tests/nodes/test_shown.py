"""Pinned images, told pixel frame by pixel frame to weights that were trained so."""

from __future__ import annotations

import pytest
import torch

from patchdit.models.saved_run import can_save
from patchdit.nodes import host
from patchdit.nodes.denoise import FinishDenoising, StartDenoising
from patchdit.nodes.editing import edit_run
from patchdit.nodes.host.native import CONCAT, VACE
from patchdit.nodes.host.shown import SHOWN
from patchdit.nodes.pin import PinFrames

from .test_denoise import sigmas_of
from .test_fill import CONFIGS, image_model, network_model

__all__ = ["image_model"]  # a fixture

ALL = [0, 0, 0, 0]


@pytest.fixture
def canvas():
    """9 frames of 32x32 pixels: latent frames of frames 0, 1 to 4 and 5 to 8."""
    return {"samples": torch.zeros(1, 16, 3, 4, 4), "video_fps": 8.0}


@pytest.fixture
def images():
    return torch.rand(4, 32, 32, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def begin(image_model, vae, prompts):
    def begun(latent, model=image_model):
        sigmas = sigmas_of(latent)
        return StartDenoising.execute(
            model, *prompts, latent, sigmas, 1, 2.0, "euler", "", vae
        ).args[0]

    return begun


def pin(latent, vae, images, frame, strength=1.0, mask=None):
    return PinFrames.execute(latent, vae, images, frame, strength, "crop", mask).args[0]


def said_in(run):
    """The latents and the planes of the mask that a run's prompts carry."""
    return tuple(run.positive[0][1][key] for key in CONCAT)


def shown_as(vae, frames):
    """The latents of a grey clip in which some frames are images."""
    clip = torch.full((9, 32, 32, 3), 0.5)
    for at, image in frames.items():
        clip[at] = image
    return host.encode_frames(vae, clip, lambda done: None)


@pytest.mark.parametrize(
    ("count", "frame", "planes"),
    [
        (1, 0, {0: ALL}),
        (1, -1, {2: [1, 1, 1, 0]}),
        (1, 2, {1: [1, 0, 1, 1]}),
        (3, 0, {0: ALL, 1: [0, 0, 1, 1]}),
        (4, 5, {2: ALL}),
        (3, 4, {1: [1, 1, 1, 0], 2: [0, 0, 1, 1]}),
    ],
)
def test_each_pixel_frame_is_told_of(canvas, vae, images, begin, count, frame, planes):
    latent = pin(canvas, vae, images[:count], frame)
    clip, mask = said_in(begin(latent))
    frames = {frame % 9 + i: images[i] for i in range(count)}
    assert torch.equal(clip, shown_as(vae, frames))
    expected = torch.tensor([planes.get(t, [1.0] * 4) for t in range(3)]).T
    assert torch.equal(mask, expected[None, ..., None, None].expand_as(mask))


def test_pins_in_parts_of_one_latent_frame_are_told_each_for_itself(canvas, vae, images, begin):
    left = torch.zeros(1, 32, 32)
    left[..., :16] = 1
    latent = pin(canvas, vae, images[:1], 5, mask=left)
    latent = pin(latent, vae, images[1:2], 7, mask=1 - left)
    clip, mask = said_in(begin(latent))
    first, second = torch.full((2, 32, 32, 3), 0.5)
    first[:, :16], second[:, 16:] = images[0, :, :16], images[1, :, 16:]
    assert torch.equal(clip, shown_as(vae, {5: first, 7: second}))
    assert mask[0, :, 2, 0, 0].tolist() == [0, 1, 1, 1]
    assert mask[0, :, 2, 0, 3].tolist() == [1, 1, 0, 1]
    assert (mask[:, :, :2] == 1).all()


def test_a_latent_that_one_image_fills_is_the_models_to_make(canvas, vae, images, begin):
    latent = pin(pin(canvas, vae, images[:1], 0), vae, images[1:2], -1)
    run = begin(latent)
    assert run.state.mask[0, 0, :, 0, 0].tolist() == [0, 1, 1]
    assert latent["noise_mask"][0, 0, :, 0, 0].tolist() == [0, 1, 0]
    made = FinishDenoising.execute(run).args[0]["samples"]
    far = (made - latent["samples"]).abs().amax((0, 1, 3, 4))
    assert far[0] < 1e-5 and far[2] > 0.05


def test_a_pin_for_a_while_is_not_known(canvas, vae, images, begin):
    run = begin(pin(canvas, vae, images[:1], -1, strength=0.5))
    assert not run.positive[0][1].keys() & set(CONCAT) and SHOWN not in run.rest


def changed(latent):
    samples = latent["samples"].clone()
    samples[:, :, 2, 0, 0] += 1e-3
    return {**latent, "samples": samples}


def freed(latent):
    mask = latent["noise_mask"].clone()
    mask[:, :, 2, :2] = 1
    return {**latent, "noise_mask": mask}


def made_larger(latent):
    return {
        **latent,
        "samples": latent["samples"].repeat(1, 1, 1, 2, 2),
        "noise_mask": latent["noise_mask"].repeat(1, 1, 1, 2, 2),
    }


@pytest.mark.parametrize("change", [changed, freed, made_larger])
def test_images_of_another_clip_are_not_told_of(canvas, vae, images, begin, change):
    """Where the latent is another's, it is shown itself, all of its frames as known."""
    latent = change(pin(canvas, vae, images[:1], -1))
    run = begin(latent)
    clip, mask = said_in(run)
    known = (latent["noise_mask"] == 0).expand_as(clip)
    assert (clip - latent["samples"])[known].abs().max() < 1e-5 and SHOWN not in run.rest
    assert torch.equal(mask, latent["noise_mask"].expand_as(mask))


def test_vace_is_told_of_latents_and_keeps_them(canvas, parts, vae, images, begin):
    latent = pin(canvas, vae, images[:1], -1)
    run = begin(latent, network_model(parts, CONFIGS["vace"]))
    control = run.positive[0][1][VACE[0]][0]
    assert (control[:, :16, 2] - latent["samples"][:, :, 2]).abs().max() < 1e-5
    assert torch.equal(run.state.mask, latent["noise_mask"]) and SHOWN not in run.rest


def test_a_saved_run_keeps_its_images(canvas, vae, images, begin):
    """A file gives plain tuples back; an edit tells of them anew."""
    run = begin(pin(canvas, vae, images[:1], -1))
    assert can_save(run.rest) and len(run.rest[SHOWN]) == 1
    run.rest[SHOWN] = tuple(tuple(note) for note in run.rest[SHOWN])
    turned = {"samples": run.rest[SHOWN][0][3].new_ones(1, 16, 3, 4, 4)}
    edited = edit_run(run, latent=turned)
    assert all(torch.equal(a, b) for a, b in zip(said_in(edited), said_in(run), strict=True))


def test_an_edit_of_what_is_kept_is_told_instead(canvas, vae, images, begin):
    latent = pin(pin(canvas, vae, images[:1], 0), vae, images[1:2], -1)
    run = begin(latent)
    same = edit_run(run, latent={"samples": latent["samples"].clone()})
    assert torch.equal(said_in(same)[0], shown_as(vae, {0: images[0], 8: images[1]}))
    other = {"samples": latent["samples"] + 1}
    clip, mask = said_in(edit_run(run, latent=other))
    assert (clip[:, :, 0] - other["samples"][:, :, 0]).abs().max() < 1e-5
    assert torch.equal(mask, said_in(run)[1])
    again = edit_run(run, latent=latent)
    assert torch.equal(said_in(again)[0], said_in(run)[0])
    assert torch.equal(again.state.mask, run.state.mask)


def test_an_edit_of_one_latent_of_a_pin_leaves_its_other_images(canvas, vae, images, begin):
    """Images 2 to 8 fill latent frame 2, and latent frame 1 but for its first pixel frame."""
    latent = pin(canvas, vae, images.repeat(2, 1, 1, 1)[:7], 2)
    run = begin(latent)
    assert run.state.mask[0, 0, :, 0, 0].tolist() == [1, 1, 0]
    samples = latent["samples"].clone()
    samples[:, :, 2] += 1
    edited = edit_run(run, latent={"samples": samples})
    clip, mask = said_in(edited)
    assert mask[0, :, :, 0, 0].T.tolist() == [[1] * 4, [1, 0, 0, 0], ALL]
    assert (clip[:, :, 2] - samples[:, :, 2]).abs().max() < 1e-5
    shown = shown_as(vae, {2: images[0], 3: images[1], 4: images[2]})
    assert torch.equal(clip[:, :, :2], shown[:, :, :2])
    assert torch.equal(edited.state.mask, run.state.mask)


def test_a_mask_alone_leaves_the_images_that_it_keeps(canvas, vae, images, begin):
    run = begin(pin(pin(canvas, vae, images[:1], 0), vae, images[1:2], -1))
    keep_end = torch.ones(9, 32, 32)
    keep_end[5:] = 0
    edited = edit_run(run, mask=keep_end)
    clip, mask = said_in(edited)
    assert torch.equal(clip, shown_as(vae, {8: images[1]}))
    assert mask[0, :, :, 0, 0].T.tolist() == [[1] * 4, [1] * 4, [1, 1, 1, 0]]
    assert edited.state.mask[0, 0, :, 0, 0].tolist() == [1, 1, 1]


def test_a_pin_is_held_where_prompts_tell_of_another_image(
    canvas, vae, images, image_model, prompts
):
    latent = pin(canvas, vae, images[:1], -1)
    entries = {CONCAT[0]: torch.zeros(1, 16, 3, 4, 4), CONCAT[1]: torch.zeros(1, 4, 3, 4, 4)}
    told = [[[features, {**values, **entries}] for features, values in p] for p in prompts]
    sigmas = sigmas_of(latent)
    run = StartDenoising.execute(image_model, *told, latent, sigmas, 1, 2.0, "euler", "", vae).args[
        0
    ]
    assert run.state.mask[0, 0, :, 0, 0].tolist() == [1, 1, 0]
    made = FinishDenoising.execute(run).args[0]["samples"]
    torch.testing.assert_close(made[:, :, 2], latent["samples"][:, :, 2])
