"""Images pinned at either end: Wan is told of them as core's own nodes tell it, inside ComfyUI.

test_fill.py runs this file by ComfyUI's own Python. Weights are random and few.
"""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_wan import WanFirstLastFrameToVideo, WanFunInpaintToVideo, WanImageToVideo

from patchdit.models.solvers import shifted_sigmas
from patchdit.nodes.denoise import DenoiseStep, FinishDenoising
from patchdit.nodes.editing import edit_run
from patchdit.nodes.empty_latent import EmptyVideoLatent
from patchdit.nodes.host.native import CONCAT
from patchdit.nodes.pin import PinFrames
from patchdit.nodes.tell_known import TellKnown

from .inside import inference
from .inside_fill import CANVAS, FRAMES, STEPS, case_of, clip, fills
from .inside_verbs import execute

__all__ = ["fills", "inference"]  # fixtures

PINS = {  # how many images at the start, and at the end
    "first": (1, 0),
    "last": (0, 1),
    "first and last": (1, 1),
    "a run at either end": (3, 2),
    "whole groups at either end": (5, 4),
}


@pytest.fixture(params=PINS)
def counts(request):
    return PINS[request.param]


@pytest.fixture
def case(fills):
    return case_of("wan i2v", fills)


def pinned(case, start, end):
    """The LATENT with images pinned by our node, and the same images for core's node."""
    size = {"aspect": "width x height", "width": 32, "height": 32}
    latent, *_ = execute(EmptyVideoLatent, **size, length_in="frames", frames=FRAMES, vae=case.vae)
    images = {}
    for name, count, frame in (("start_image", start, 0), ("end_image", end, -end)):
        if count:
            images[name] = clip(1 if frame else 2)[:count]
            given = {"images": images[name], "frame": frame}
            latent, *_ = execute(PinFrames, latent=latent, vae=case.vae, **given)
    return latent, images


def cores(case, images, node=WanFirstLastFrameToVideo):
    """Both prompts by core's node."""
    return node.execute(*case.prompts, case.vae, **CANVAS, **images).args[:2]


def check_same(ours, theirs):
    for (_, said), (_, core) in zip(ours, theirs, strict=True):
        for key in CONCAT:
            assert said[key].shape == core[key].shape and torch.equal(said[key], core[key]), key


@pytest.mark.parametrize("node", [WanFirstLastFrameToVideo, WanFunInpaintToVideo])
def test_pins_are_told_as_cores_node_tells_them(case, counts, node):
    latent, images = pinned(case, *counts)
    run = case.run(latent)
    theirs = cores(case, images, node)
    check_same([*run.positive, *run.negative], [*theirs[0], *theirs[1]])
    *prompts, rest = TellKnown.execute(case.model, case.vae, *case.prompts, latent).args
    check_same([*prompts[0], *prompts[1]], [*theirs[0], *theirs[1]])
    assert "noise_mask" not in rest and torch.equal(rest["samples"], latent["samples"])
    noise = torch.zeros_like(latent["samples"])
    seen = [
        case.model.model.concat_cond(noise=noise, device="cpu", **prompt[0][1])
        for prompt in (run.positive, theirs[0])
    ]
    assert seen[0].shape == (1, 20, 3, 4, 4) and torch.equal(*seen)


def test_a_first_image_is_what_cores_image_to_video_shows(case):
    """Its mask is of one plane, which the model spreads."""
    latent, images = pinned(case, 1, 0)
    said = case.run(latent).positive[0][1]
    core = cores(case, images, WanImageToVideo)[0][0][1]
    assert torch.equal(said[CONCAT[0]], core[CONCAT[0]])
    assert torch.equal(said[CONCAT[1]], core[CONCAT[1]].expand(-1, 4, -1, -1, -1))


def test_cores_sampler_makes_of_our_prompts_what_it_makes_of_its_own(case, counts):
    latent, images = pinned(case, *counts)
    *ours, rest = TellKnown.execute(case.model, case.vae, *case.prompts, latent).args
    noise, made = comfy.sample.prepare_noise(rest["samples"], 1), []
    for prompts in (ours, cores(case, images)):
        euler = comfy.samplers.sampler_object("euler")
        given = 2.0, euler, shifted_sigmas(STEPS, 3.0), *prompts, rest["samples"]
        made.append(comfy.sample.sample_custom(case.model, noise, *given, seed=1))
    assert torch.equal(*made) and made[0].std() > 0.1


def test_only_latents_of_images_alone_are_put_back(case, counts):
    """The latent of one last image is that of a still: its other frames are the model's to make."""
    latent, _ = pinned(case, *counts)
    made = FinishDenoising.execute(case.run(latent)).args[0]["samples"]
    start, end = counts
    whole = {t for t in range(3) if max(0, 4 * t - 3) >= 9 - end or 4 * t < start}
    same = (made - latent["samples"]).abs().amax((0, 1, 3, 4)) < 1e-5
    assert {t for t in range(3) if same[t]} == whole


def test_an_edit_keeps_what_it_does_not_speak_of(case):
    latent, images = pinned(case, 1, 1)
    theirs = cores(case, images)
    run, predicted, _ = DenoiseStep.execute(case.run(latent), 1).args
    check_same(edit_run(run, latent=predicted).positive, theirs[0])
    moved = {**predicted, "samples": predicted["samples"].clone()}
    moved["samples"][:, :, 0] += 1
    said, last = edit_run(run, latent=moved).positive[0][1], theirs[0][0][1]
    assert (said[CONCAT[0]][:, :, 0] - moved["samples"][:, :, 0]).abs().max() < 1e-5
    assert torch.equal(said[CONCAT[1]], last[CONCAT[1]])
    free = edit_run(run, mask=torch.ones(1, 32, 32)).positive[0][1]
    assert not free.keys() & set(CONCAT)
