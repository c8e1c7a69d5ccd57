"""The pack's host side in the process of a real ComfyUI, where the network can be watched.

conftest.py runs this file by ComfyUI's own Python. B batch, C channels, T/H/W latent frames,
rows, columns, S text tokens.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import comfy.context_windows
import comfy.hooks
import comfy.patcher_extension
import pytest
import torch

from patchdit.models.flow import denoise, finish, start
from patchdit.models.solvers import shifted_sigmas
from patchdit.nodes import host
from patchdit.nodes.host import alone
from patchdit.nodes.host.comfyui_model import RUN_CACHE
from patchdit.nodes.host.duck import Model

from ..nodes.conftest import model, parts, plain_parts, weights

__all__ = ["model", "parts", "plain_parts", "weights"]  # fixtures

SHAPE = 2, 16, 3, 4, 6  # 6 tokens a frame
KNOWN, UNKNOWN = 10, 8  # tokens of `mask_of(0)`: 6 of frame 0, 2 of the 6 of each later one
STEPS = 4
CFG = 3.0


@pytest.fixture(autouse=True)
def inference():
    """As ComfyUI runs its nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def prompts(parts):
    """As in tests/nodes, but the CLIP lives on: else core looks for a leak before every load."""
    clip = host.make_clip(parts.text, parts.tokenizer)
    texts = "a red ball bounces", ""
    yield [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts]


def mask_of(kept):
    """Latent frame 0 and the last columns at `kept`, the rest to generate."""
    mask = torch.ones(SHAPE[0], 1, *SHAPE[2:])
    mask[:, :, 0] = kept
    mask[..., 4:] = kept
    return mask


def a_run(kept=0.0, fill="frames", batch=2):
    latent = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))[:batch]
    return start(latent, mask_of(kept)[:batch], shifted_sigmas(STEPS, 3.0), 7, fill=fill)


def result_of(model, prompts, state, cfg=CFG):
    denoiser = host.as_denoiser(model, *prompts, cfg)
    return finish(denoiser.run(state, lambda denoiser: denoise(state, denoiser)))


def run_alone(parts, prompts, state, steps=None):
    denoiser = alone.as_denoiser(Model(parts.transformer, parts.vae), *prompts, CFG)
    return denoiser.run(state, lambda denoiser: denoise(state, denoiser, steps))


def result_alone(parts, prompts, state):
    return finish(run_alone(parts, prompts, state))


def with_weight(parts, name, delta):
    """The parts with a network of other weights; the given ones stay as they are."""
    network = deepcopy(parts.transformer)
    network.get_parameter(name).data.add_(delta)
    return replace(parts, transformer=network)


class Watch:
    """What the network computes: tokens of every pass through its blocks, texts embedded."""

    def __init__(self, model):
        network = model.model.diffusion_model
        self.passes, self.texts = [], []
        first = network.blocks[0]
        self.hooks = [
            first.register_forward_pre_hook(lambda _, args: self.passes.append(args[0].shape[1])),
            network.text_embedding.register_forward_hook(lambda *_: self.texts.append(1)),
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


def with_block_patch(model):
    """The model with a patch that leaves block 0 as it is."""
    patched = model.clone()
    patched.set_model_patch_replace(
        lambda args, extra: extra["original_block"](args), "dit", "double_block", 0
    )
    return patched


def test_known_tokens_and_text_are_computed_once_a_run(model, prompts):
    with Watch(model) as seen:
        result_of(model, prompts, a_run())
    assert seen.passes == [KNOWN, UNKNOWN] * 2 + [UNKNOWN] * 2 * (STEPS - 1)
    assert len(seen.texts) == 2


def test_with_a_patch_on_a_block_known_tokens_are_computed_at_every_step(model, prompts):
    cached = result_of(model, prompts, a_run())
    with Watch(model) as seen:
        uncached = result_of(with_block_patch(model), prompts, a_run())
    assert seen.passes == [KNOWN, UNKNOWN] * 2 * STEPS
    assert (cached - uncached).abs().max() < 1e-5


def test_with_hooks_on_a_prompt_nothing_is_kept_between_steps(model, parts, prompts):
    """Core's scheduled LoRAs: here one that sets in at the third of four steps."""
    name = "blocks.0.cross_attn.k.weight"
    delta = torch.randn_like(parts.transformer.state_dict()[name])
    frames = comfy.hooks.HookKeyframeGroup()
    frames.add(comfy.hooks.HookKeyframe(0.0, 0.0))
    frames.add(comfy.hooks.HookKeyframe(1.0, 0.5))
    hook = comfy.hooks.WeightHook()
    hook.weights, hook.need_weight_init = {f"diffusion_model.{name}": (delta,)}, False
    hooks = comfy.hooks.HookGroup()
    hooks.add(hook)
    hooks.set_keyframes_on_hooks(frames)
    hooked = [[[c, {**rest, "hooks": hooks}] for c, rest in prompt] for prompt in prompts]
    with Watch(model) as seen:
        inside = result_of(model, hooked, a_run())
    assert seen.passes == [KNOWN, UNKNOWN] * 2 * STEPS and len(seen.texts) == 2 * STEPS
    halfway = run_alone(parts, prompts, a_run(), 2)
    later = run_alone(with_weight(parts, name, delta), prompts, halfway, 2)
    assert (inside - finish(later)).abs().max() < 1e-4
    assert (inside - result_of(model, prompts, a_run())).abs().max() > 1e-3


@pytest.mark.parametrize("held", [True, False])
def test_a_wrapper_may_change_the_prompt_at_every_step(model, parts, prompts, held):
    """Text is computed anew where its features are others, whether or not a run keeps it."""

    def fade(executor, x, t, c_concat, c_crossattn, control, options, **kwargs):
        if not held:
            options = {name: value for name, value in options.items() if name != RUN_CACHE}
        return executor(x, t, c_concat, c_crossattn * t[0], control, options, **kwargs)

    kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
    faded = model.clone()
    faded.add_wrapper_with_key(kind, "fade", fade)
    inside = result_of(faded, prompts, a_run())
    state = a_run()
    for sigma in state.sigmas.tolist()[:-1]:
        dimmer = [[[c * sigma, rest] for c, rest in prompt] for prompt in prompts]
        state = run_alone(parts, dimmer, state, 1)
    assert (inside - finish(state)).abs().max() < 1e-5


@pytest.mark.parametrize("layer", ["blocks.0.cross_attn.k", "blocks.1.self_attn.v"])
def test_a_patch_of_weights_between_runs_counts(model, parts, prompts, layer):
    """As a LoRA does it; the caches of text and known tokens are the old weights'."""
    before = result_of(model, prompts, a_run())
    name = f"{layer}.weight"
    delta = torch.randn_like(parts.transformer.state_dict()[name])
    patched = model.clone()
    assert patched.add_patches({f"diffusion_model.{name}": (delta,)})
    after = result_of(patched, prompts, a_run())
    assert (after - before).abs().max() > 1e-4
    expected = result_alone(with_weight(parts, name, delta), prompts, a_run())
    assert (after - expected).abs().max() < 1e-4
    assert torch.equal(result_of(model, prompts, a_run()), before)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.5, 0.8])
def test_known_and_softly_known_latents_as_without_comfyui(model, parts, prompts, kept):
    inside = result_of(model, prompts, a_run(kept))
    assert (inside - result_alone(parts, prompts, a_run(kept))).abs().max() < 1e-5
    assert (inside - result_of(model, prompts, a_run(1.0))).abs().max() > 1e-2


def graded(kind):
    """Noise levels between 0 and 0.9, no two alike: by latent frame, or by cell."""
    shape = (SHAPE[0], SHAPE[2]) if kind == "frame" else (SHAPE[0], *SHAPE[2:])
    count = torch.Size(shape).numel()
    return torch.linspace(0, 0.9, count)[torch.randperm(count)].reshape(shape)


@pytest.mark.parametrize("kind", ["frame", "cell"])
def test_graded_levels_as_without_comfyui(model, parts, prompts, kind):
    """Any levels, not only 0 and the step's own: the network's timesteps and x0 both follow."""
    x, sigma = torch.randn(SHAPE), graded(kind)
    denoiser = host.as_denoiser(model, *prompts, CFG)
    inside = denoiser.run(a_run(), lambda denoiser: denoiser(x, sigma))
    other = alone.as_denoiser(Model(parts.transformer, parts.vae), *prompts, CFG)
    outside = other.run(a_run(), lambda denoiser: denoiser(x, sigma))
    assert (inside - outside).abs().max() < 1e-5


def test_all_levels_zero_give_x_back(model, prompts):
    x = torch.randn(SHAPE)
    denoiser = host.as_denoiser(model, *prompts, CFG)
    assert torch.equal(denoiser.run(a_run(), lambda d: d(x, torch.zeros(SHAPE[0], SHAPE[2]))), x)


def test_levels_are_cut_with_x_for_an_area(model, parts, prompts):
    """A prompt for the right half only: there the levels of the right half count."""
    x, sigma = torch.randn(SHAPE), graded("cell")
    area = [[[c, {**rest, "area": (4, 2, 0, 4)}] for c, rest in prompts[0]], prompts[1]]
    denoiser = host.as_denoiser(model, *area, 1.0)
    inside = denoiser.run(a_run(), lambda d: d(x, sigma))[..., 4:]
    other = alone.as_denoiser(Model(parts.transformer, parts.vae), *prompts, 1.0)
    outside = other.run(a_run(), lambda d: d(x[..., 4:], sigma[..., 4:]))
    assert (inside - outside).abs().max() < 1e-5


def test_levels_are_cut_with_x_for_context_windows(model, prompts):
    """Windows of two latent frames over three: each is told its own frames' timesteps.

    Core's windows take one clip, not a batch.
    """
    windows = comfy.context_windows
    windowed = model.clone()
    windowed.model_options["context_handler"] = windows.IndexListContextHandler(
        windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        windows.get_matching_fuse_method(windows.ContextFuseMethods.PYRAMID),
        context_length=2,
        context_overlap=1,
        dim=2,
        causal_window_fix=False,
    )
    seen = []
    hook = windowed.model.diffusion_model.register_forward_pre_hook(
        lambda _, args: seen.append((args[1] / 1000)[0].tolist())
    )
    denoiser = host.as_denoiser(windowed, *prompts, 1.0)
    state, sigma = a_run(batch=1), torch.tensor([[0.0, 0.5, 0.9]])
    x0 = denoiser.run(state, lambda d: d(state.x, sigma))
    hook.remove()
    assert [[round(level, 4) for level in levels] for levels in seen] == [[0.0, 0.5], [0.5, 0.9]]
    assert x0.isfinite().all()


def test_the_models_options_and_the_prompts_stay_as_they_were(model, prompts):
    options = model.model_options
    before = {name: dict(value) for name, value in options.items() if isinstance(value, dict)}
    entries = [[dict(rest) for _, rest in prompt] for prompt in prompts]
    result_of(model, prompts, a_run())
    assert {name: dict(options[name]) for name in before} == before
    assert [[dict(rest) for _, rest in prompt] for prompt in prompts] == entries


def test_a_run_that_these_weights_cannot_hold_is_refused(plain_parts, prompts):
    other = host.make_model(plain_parts.transformer, plain_parts.vae)
    with pytest.raises(ValueError, match="start it anew with this MODEL"):
        result_of(other, prompts, a_run(fill="frames"))
    assert result_of(other, prompts, a_run(fill="replace")).isfinite().all()
