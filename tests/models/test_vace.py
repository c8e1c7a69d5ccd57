"""VACE against diffusers' network, and the arithmetic of its control channels."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from patchdit.models.checkpoints import in_diffusers
from patchdit.models.config import TransformerConfig
from patchdit.models.patches import patchify
from patchdit.models.transformer import PatchDiT
from patchdit.models.vace import Control, control_channels

# A head of 16 splits into 8/4/4. Hints after layers 0 and 2 of 4.
TINY = TransformerConfig(
    width=48, mlp_width=80, heads=3, layers=4, in_channels=4, out_channels=4, text_width=20,
    text_length=9, vace_blocks=2, vace_channels=12,
)  # fmt: skip
TIMESTEP = torch.tensor([500.0, 20.0])  # diffusers rounds the angles of higher ones to 1e-4


def make(config=TINY):
    torch.manual_seed(0)
    model = PatchDiT(config)
    for name, p in model.named_parameters():  # norms and biases as a trained model has them
        nn.init.normal_(p, 1.0 if "norm" in name and "weight" in name else 0.0, 0.15)
    return model.eval()


def inputs(controls=1, size=(3, 4, 6)):
    torch.manual_seed(1)
    x, context = torch.randn(2, 4, *size), torch.randn(2, 9, 20)
    return x, context, [torch.randn(2, 12, *size) for _ in range(controls)]


def reference(model):
    """Diffusers' network with the same weights."""
    from diffusers import WanVACETransformer3DModel

    c = model.config
    theirs = WanVACETransformer3DModel(
        patch_size=tuple(c.patch),
        num_attention_heads=c.heads,
        attention_head_dim=c.head_width,
        in_channels=c.in_channels,
        out_channels=c.out_channels,
        text_dim=c.text_width,
        freq_dim=c.frequency_width,
        ffn_dim=c.mlp_width,
        num_layers=c.layers,
        vace_layers=list(range(0, c.layers, c.layers // c.vace_blocks)),
        vace_in_channels=c.vace_channels,
    )
    theirs.load_state_dict({in_diffusers(k): v for k, v in model.state_dict().items()})
    return theirs.eval()


def hints_of(theirs, *call):
    """What each of diffusers' control blocks says in one call."""
    seen = []
    hooks = [
        block.register_forward_hook(lambda m, i, out: seen.append(out[0]))
        for block in theirs.vace_blocks
    ]
    theirs(*call[:3], control_hidden_states=call[3])
    for hook in hooks:
        hook.remove()
    return seen


@torch.no_grad()
@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("strength", [1.0, 0.35])
def test_a_control_does_what_it_does_in_diffusers(blocks, strength):
    model = make(replace(TINY, vace_blocks=blocks))
    x, context, (control,) = inputs()
    scale = torch.full((blocks,), strength)
    theirs = reference(model)(x, TIMESTEP, context, None, control, scale).sample
    ours = model(x, TIMESTEP, context, control=Control((control,), (strength,)))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert (ours - model(x, TIMESTEP, context)).abs().max() > 1e-2


@torch.no_grad()
def test_the_hints_of_two_controls_are_added_up_by_strength():
    model, strengths = make(), (0.4, 1.3)
    x, context, controls = inputs(controls=2)
    theirs = reference(model)
    apart = [hints_of(theirs, x, TIMESTEP, context, control) for control in controls]
    for block, *pair in zip(theirs.vace_blocks, *apart, strict=True):
        both = sum(s * hint for s, hint in zip(strengths, pair, strict=True))
        block.register_forward_hook(lambda m, i, out, both=both: (both, out[1]))
    expected = theirs(x, TIMESTEP, context, None, controls[0]).sample
    ours = model(x, TIMESTEP, context, control=Control(controls, strengths))
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    turned = model(x, TIMESTEP, context, control=Control(controls[::-1], strengths))
    assert (ours - turned).abs().max() > 1e-2


@torch.no_grad()
def test_without_a_control_or_strength_it_is_the_model_it_was_made_from():
    model = make()
    plain = PatchDiT(replace(TINY, vace_blocks=0, vace_channels=0)).eval()
    left = plain.load_state_dict(model.state_dict(), strict=False)
    assert not left.missing_keys and all(key.startswith("vace_") for key in left.unexpected_keys)
    x, context, (control,) = inputs()
    expected = plain(x, TIMESTEP, context)
    assert torch.equal(model(x, TIMESTEP, context), expected)
    unheard = model(x, TIMESTEP, context, control=Control((control,), (0.0,)))
    torch.testing.assert_close(unheard, expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_names_of_tensors_are_those_of_the_published_weights():
    names = set(make().state_dict())
    block = {n.removeprefix("blocks.0.") for n in names if n.startswith("blocks.0.")}
    after = {"after_proj.weight", "after_proj.bias"}
    before = {"before_proj.weight", "before_proj.bias"}
    assert {n for n in names if n.startswith("vace_")} == {
        "vace_patch_embedding.weight",
        "vace_patch_embedding.bias",
        *(f"vace_blocks.0.{n}" for n in block | after | before),
        *(f"vace_blocks.1.{n}" for n in block | after),
    }


@torch.no_grad()
def test_one_control_serves_a_batch_and_text_is_computed_once():
    model = make()
    x, context, (control,) = inputs()
    one = control[:1]
    expected = model(x, TIMESTEP, context, control=Control((one.expand(2, -1, -1, -1, -1),), (1,)))
    text = model.text_keys_values(context)
    model.text_embedding = None  # it must not be asked again
    ours = model(x, TIMESTEP, text, control=Control((one,), (1,)))
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_packed_clips_with_a_control_equal_separate_ones():
    model = make()
    x, context, (control,) = inputs()
    tokens, grid = patchify(x, TINY.patch)
    hinted = patchify(control, TINY.patch)[0]
    expected = model.forward_tokens(
        tokens, grid.positions(), TIMESTEP, context, control=Control((hinted,), (0.7,))
    )
    packed = model.forward_tokens(
        tokens.flatten(0, 1)[None], grid.positions().repeat(2, 1), TIMESTEP, context,
        [grid.tokens] * 2, control=Control((hinted.flatten(0, 1)[None],), (0.7,)),
    )  # fmt: skip
    torch.testing.assert_close(packed.view_as(expected), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_host_that_runs_the_blocks_itself_gets_the_hints():
    class Host(PatchDiT):
        def run_blocks(self, x_BLD, shared):
            for layer, block in enumerate(self.blocks):
                x_BLD = self.after_block(block(x_BLD, shared, layer), shared, layer)
            return x_BLD

    model = make()
    host = Host(TINY).eval()
    host.load_state_dict(model.state_dict())
    x, context, (control,) = inputs()
    run = {"control": Control((control,), (1.0,))}
    assert torch.equal(host(x, TIMESTEP, context, **run), model(x, TIMESTEP, context, **run))


def test_a_fresh_control_says_nothing_and_can_learn():
    torch.manual_seed(0)
    model = PatchDiT(TINY)
    model.init_weights()
    nn.init.normal_(model.head.head.weight)
    x, context, (control,) = inputs()
    out = model(x, TIMESTEP, context, control=Control((control,), (1.0,)))
    torch.testing.assert_close(out, model(x, TIMESTEP, context), atol=1e-6, rtol=0)
    out.square().mean().backward()
    for block in model.vace_blocks:
        assert block.after_proj.weight.grad.any()


def official_planes(mask_FHW, frames):
    """The 64 planes as the official code's loops would fill them, a pixel at a time."""
    F, H, W = mask_FHW.shape
    planes = torch.zeros(64, frames, H // 8, W // 8)
    for t in range(frames):
        nearest = int((t + 0.5) * F / frames)
        for row in range(H):
            for column in range(W):
                plane = row % 8 * 8 + column % 8
                planes[plane, t, row // 8, column // 8] = mask_FHW[nearest, row, column]
    return planes


def test_channels_are_latents_and_the_pixels_of_the_mask():
    torch.manual_seed(2)
    inactive, reactive = torch.randn(2, 16, 3, 2, 3), torch.randn(2, 16, 3, 2, 3)
    mask = (torch.rand(2, 1, 3, 2, 3) > 0.5).float()
    out = control_channels(inactive, reactive, mask)
    assert out.shape == (2, 96, 3, 2, 3)
    assert torch.equal(out[:, :16], inactive) and torch.equal(out[:, 16:32], reactive)
    frames = [0, *(1 + i // 4 for i in range(8))]  # the latent frame of each pixel frame
    pixels = mask[:, :, frames].repeat_interleave(8, 3).repeat_interleave(8, 4)
    for item, planes in zip(pixels, out[:, 32:], strict=True):
        assert torch.equal(planes, official_planes(item[0], 3))


def test_bad_input_is_one_sentence():
    model = make()
    plain = PatchDiT(replace(TINY, vace_blocks=0, vace_channels=0))
    x, context, (control,) = inputs()
    latents, t = torch.zeros(1, 16, 3, 2, 2), TIMESTEP
    good = Control((control,), (1.0,))
    cases = [
        (lambda: Control((control,), (1.0, 2.0)), "1 control videos with 2 strengths"),
        (lambda: Control((), ()), "at least one video"),
        (lambda: plain(x, t, context, control=good), "no VACE blocks"),
        (
            lambda: model(x, t, context, control=Control((control[:, :, :2],), (1.0,))),
            "as many frames, rows and columns",
        ),
        (
            lambda: model(x, t, context, control=Control((control[:, :5],), (1.0,))),
            r"\(2, 18, 20\) for 2x18 tokens; need one of 48 values for each \(12 channels\)",
        ),
        (lambda: PatchDiT(replace(TINY, known_attends_known=True)), "tokens that see all"),
        (lambda: PatchDiT(replace(TINY, vace_blocks=3)), "4 layers with 3 VACE blocks"),
        (lambda: PatchDiT(replace(TINY, vace_channels=0)), "for 0 channels"),
        (
            lambda: control_channels(latents, latents, torch.ones(1, 1, 9, 2, 2)),
            r"latents of \(3, 2, 2\) cells",
        ),
        (
            lambda: control_channels(latents, latents[:, :4], torch.ones(1, 1, 3, 2, 2)),
            "the same for both",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
