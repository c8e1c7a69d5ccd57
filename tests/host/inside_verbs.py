"""Verbs in the process of a real ComfyUI: core's sampler between their halves, runs in runs.

conftest.py runs this file beside inside.py. B batch, C channels, T/H/W latent frames, rows,
columns; frames_FHWC are RGB in 0..1.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import comfy.hooks
import comfy.sd
import pytest
import torch

import nodes as core
from patchdit.models import blockworld
from patchdit.models.flow import denoise_step, finish
from patchdit.nodes import host
from patchdit.nodes.empty_latent import EmptyVideoLatent
from patchdit.nodes.extend import PrepareExtend
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.host import alone
from patchdit.nodes.host.duck import Model
from patchdit.nodes.loop import PrepareLoop
from patchdit.nodes.pin import PinFrames
from patchdit.nodes.reframe import PrepareReframe
from patchdit.nodes.remix import PrepareRemix
from patchdit.nodes.stitch import PrepareStitch

from ..nodes.conftest import model, parts
from .graphs import lora_of
from .inside import CFG, a_run, inference, prompts, result_of, with_weight

__all__ = ["inference", "model", "parts", "prompts"]  # fixtures

FRAMES = 17
HIDDEN = torch.zeros(1, 40, 24)  # a mask of which the right half may change
HIDDEN[..., 12:] = 1


@pytest.fixture(scope="session")
def vae(parts):
    return host.make_vae(parts.vae)


def clip(seed: int) -> torch.Tensor:
    """Frames whose sides are no multiples of a patch."""
    return torch.rand(FRAMES, 40, 24, 3, generator=torch.Generator().manual_seed(seed))


def execute(node, **given) -> tuple:
    """A node's outputs, from its own defaults where nothing is given."""
    sockets = node.GET_SCHEMA().inputs
    defaults = {s.id: s.default for s in sockets if getattr(s, "default", None) is not None}
    return node.execute(**{**defaults, **given}).args


def ksampler(model, prompts, latent, denoise=1.0):
    settings = 3, 8, CFG, "euler", "simple"
    return core.common_ksampler(model, *settings, *prompts, latent, denoise=denoise)[0]


def finished(prepare, model, vae, prompts, denoise=1.0, **given) -> torch.Tensor:
    """The frames of a Prepare node's clip, through core's sampler; the latent keeps its mask."""
    latent, plan = execute(prepare, model=model, vae=vae, **given)
    before = latent["samples"].clone()
    made = ksampler(model, prompts, latent, denoise)
    whole, video, *_ = execute(FinishVideo, latent=made, plan=plan)
    assert torch.equal(latent["samples"], before)
    assert whole["samples"].isfinite().all() and "noise_mask" not in whole
    frames_FHWC = video.get_components().images
    assert frames_FHWC.isfinite().all()
    return frames_FHWC


def test_extending(model, vae, prompts):
    after = finished(PrepareExtend, model, vae, prompts, video=clip(1), seconds=1.0)
    assert after.shape == (FRAMES + 8, 40, 24, 3) and torch.equal(after[:FRAMES], clip(1))
    before = finished(
        PrepareExtend, model, vae, prompts, video=clip(1), seconds=1.0, direction="backwards"
    )
    assert before.shape == after.shape and torch.equal(before[8:], clip(1))


def test_stitching_and_looping(model, vae, prompts):
    pair = {"video_a": clip(1), "video_b": clip(2)}
    joined = finished(PrepareStitch, model, vae, prompts, seconds=1.0, **pair)
    assert len(joined) == 2 * FRAMES + 8
    assert torch.equal(joined[:FRAMES], clip(1)) and torch.equal(joined[-FRAMES:], clip(2))
    looped = finished(PrepareLoop, model, vae, prompts, video=clip(1), seconds=1.0)
    assert len(looped) == FRAMES + 8 and torch.equal(looped[:FRAMES], clip(1))


def test_reframing(model, vae, prompts):
    size = {"aspect": "width x height", "width": 56, "height": 40}
    wide = finished(PrepareReframe, model, vae, prompts, video=clip(1), **size)
    assert wide.shape == (FRAMES, 40, 56, 3)
    assert torch.equal(wide[:, :, 16:40], clip(1))


def test_remixing_a_region(model, vae, prompts):
    given = {"video": clip(1), "mask": HIDDEN, "denoise": 0.5}
    remade = finished(PrepareRemix, model, vae, prompts, **given)
    assert torch.equal(remade[:, :, :12], clip(1)[:, :, :12])
    assert (remade[:, :, 20:] - clip(1)[:, :, 20:]).abs().mean() > 0.01


def test_pinned_frames(model, vae, prompts):
    size = {"aspect": "width x height", "width": 32, "height": 48}
    canvas, *_ = execute(EmptyVideoLatent, **size, length_in="frames", frames=FRAMES)
    pin = {"vae": vae, "images": clip(1)[:1]}
    latent, *_ = execute(PinFrames, latent=canvas, **pin)
    latent, *_ = execute(PinFrames, latent=latent, **pin, frame=-1, strength=0.6)
    made = ksampler(model, prompts, latent)["samples"]
    assert made.isfinite().all()
    assert (made[:, :, 0] - latent["samples"][:, :, 0]).abs().max() < 1e-4


def hooked(prompts, parts, delta):
    """The prompts with a hook that adds to one weight of the network."""
    hook = comfy.hooks.WeightHook()
    hook.weights, hook.need_weight_init = {f"diffusion_model.{NAME}": (delta,)}, False
    hooks = comfy.hooks.HookGroup()
    hooks.add(hook)
    return [[[c, {**rest, "hooks": hooks}] for c, rest in prompt] for prompt in prompts]


NAME = "blocks.0.cross_attn.k.weight"


def half_and_half(one, other, state):
    """A run whose every step is the mean of two denoisers, the second's run inside the first's."""

    def work(first, second):
        now = state
        while now.steps_left:
            now = denoise_step(now, lambda x, sigma: (first(x, sigma) + second(x, sigma)) / 2)
        return now

    return finish(
        one.run(state, lambda first: other.run(state, lambda second: work(first, second)))
    )


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_a_run_inside_a_run_of_the_same_model(model, parts, prompts, first, second):
    """As in flow edit; hooks (core's scheduled LoRAs) on one's prompts are those prompts' own."""
    before = result_of(model, prompts, a_run())
    turned = prompts[::-1]
    deltas = [torch.randn_like(parts.transformer.state_dict()[NAME]) for _ in range(2)]
    guides, weights = [prompts, turned], [parts, parts]
    for i, wanted in enumerate((first, second)):
        if wanted:
            guides[i] = hooked(guides[i], parts, deltas[i])
            weights[i] = with_weight(parts, NAME, deltas[i])
    inside = half_and_half(*(host.as_denoiser(model, *guide, CFG) for guide in guides), a_run())
    others = [
        alone.as_denoiser(Model(part.transformer, part.vae), *guide, CFG)
        for part, guide in zip(weights, (prompts, turned), strict=True)
    ]
    assert (inside - half_and_half(*others, a_run())).abs().max() < 1e-4
    assert torch.equal(result_of(model, prompts, a_run()), before)


def test_fingerprints(prompts):
    """Of a model from its file, also with a LoRA; runs that merge it into the weights change none.

    What is found here is written down, so that another process can compare.
    """
    loaded = blockworld.load(Path(os.environ["PATCHDIT_WEIGHTS"]))
    plain = host.make_model(loaded.transformer, loaded.vae)

    def with_lora(strength: float):
        return comfy.sd.load_lora_for_models(plain, None, lora_of(loaded), strength, 0)[0]

    models = {"0": plain, "0.5": with_lora(0.5), "1.0": with_lora(1.0)}
    found = {name: host.fingerprint(each) for name, each in models.items()}
    assert len(set(found.values())) == len(models)
    results = [result_of(each, prompts, a_run()) for each in models.values()]
    assert (results[0] - results[1]).abs().max() > 1e-3
    assert {name: host.fingerprint(each) for name, each in models.items()} == found
    Path(os.environ["PATCHDIT_FINGERPRINTS"]).write_text(json.dumps(found))
