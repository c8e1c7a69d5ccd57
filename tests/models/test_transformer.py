"""PatchDiT against diffusers' Wan, and what it promises about known tokens and packing."""

from dataclasses import replace

import pytest
import torch

from patchdit.models.blocks import KnownCache
from patchdit.models.checkpoints import in_diffusers
from patchdit.models.config import TransformerConfig
from patchdit.models.patches import Grid, patchify
from patchdit.models.transformer import PatchDiT

# A head of 16 splits into 8/4/4: a rotary split by another rule would show.
TINY = TransformerConfig(
    width=48, mlp_width=80, heads=3, layers=2, in_channels=4, out_channels=4, text_width=20,
    text_length=9,
)  # fmt: skip
KNOWING = replace(TINY, known_attends_known=True)
PLACED = replace(TINY, position_features=8)
BOTH = replace(KNOWING, position_features=8)


def make(config, seed=0, **kwargs):
    torch.manual_seed(seed)
    model = PatchDiT(config, **kwargs)
    for name, p in model.named_parameters():  # norms and biases as a trained model has them
        torch.nn.init.normal_(p, 1.0 if "norm" in name and "weight" in name else 0.0, 0.15)
    return model.eval()


def inputs(config, batch=2, size=(3, 4, 6), seed=1):
    torch.manual_seed(seed)
    x = torch.randn(batch, config.in_channels, *size)
    return x, torch.randn(batch, config.text_length, config.text_width)


def reference(model):
    """Diffusers' network with the same weights."""
    from diffusers import WanTransformer3DModel

    c = model.config
    theirs = WanTransformer3DModel(
        patch_size=tuple(c.patch),
        num_attention_heads=c.heads,
        attention_head_dim=c.head_width,
        in_channels=c.in_channels,
        out_channels=c.out_channels,
        text_dim=c.text_width,
        freq_dim=c.frequency_width,
        ffn_dim=c.mlp_width,
        num_layers=c.layers,
        image_dim=c.image_width or None,
        added_kv_proj_dim=c.width if c.image_width else None,
        pos_embed_seq_len=c.image_positions or None,
    )
    theirs.load_state_dict({in_diffusers(k): v for k, v in model.state_dict().items()})
    return theirs.eval()


@torch.no_grad()
@pytest.mark.parametrize("patch", [(1, 2, 2), (1, 1, 2)])
@pytest.mark.parametrize("timesteps", ["sample", "frame", "token"])
def test_text_to_video_equals_diffusers(timesteps, patch):
    model = make(replace(TINY, patch=patch))
    x, context = inputs(model.config)
    rows = patchify(x, model.config.patch)[1].tokens // 3
    given = {"sample": torch.tensor([900.0, 13.0]), "frame": torch.rand(2, 3) * 1000}
    given["token"] = torch.rand(2, 3 * rows) * 1000
    theirs = given[timesteps]
    if timesteps == "frame":
        theirs = theirs.repeat_interleave(rows, 1)
    expected = reference(model)(x, theirs, context).sample
    torch.testing.assert_close(model(x, given[timesteps], context), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


@torch.no_grad()
def test_a_patch_of_several_frames_is_as_noisy_as_its_noisiest():
    model = make(replace(TINY, patch=(2, 2, 2)))
    x, context = inputs(model.config, size=(4, 4, 6))
    by_frame = torch.tensor([[0.0, 500, 900, 20], [3.0, 3, 0, 0]])
    expected = model(x, torch.tensor([[500.0, 900], [3.0, 0]]), context)
    assert torch.equal(model(x, by_frame, context), expected)


@torch.no_grad()
def test_image_to_video_without_clip_features_equals_diffusers():
    model = make(replace(TINY, in_channels=9))
    x, context = inputs(model.config)
    timestep = torch.tensor([500.0, 20.0])
    expected = reference(model)(x, timestep, context).sample
    torch.testing.assert_close(model(x, timestep, context), expected, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("positions", [0, 10])
def test_image_to_video_with_clip_features_equals_diffusers(positions):
    # diffusers takes the last 512 context rows to be text, whatever its config says.
    config = replace(
        TINY, in_channels=9, image_width=24, image_positions=positions, text_length=512
    )
    model = make(config)
    x, context = inputs(config)
    features = torch.randn(2, 10, 24)
    timestep = torch.tensor([700.0, 350.0])
    given = features.view(4, 5, 24) if positions else features  # theirs: an image a row
    expected = reference(model)(x, timestep, context, given).sample
    ours = model(x, timestep, context, features)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    assert (ours - model(x, timestep, context)).abs().max() > 1e-2


@torch.no_grad()
def test_short_text_is_padded_with_zeros_and_attended_to():
    model = make(TINY)
    x, context = inputs(TINY)
    padded = torch.cat((context[:, :4], torch.zeros(2, 5, 20)), 1)
    timestep = torch.tensor([500.0, 20.0])
    assert torch.equal(model(x, timestep, context[:, :4]), model(x, timestep, padded))


@torch.no_grad()
def test_text_is_computed_once():
    model = make(TINY)
    x, context = inputs(TINY)
    timestep = torch.tensor([500.0, 20.0])
    text = model.text_keys_values(context)
    expected = model(x, timestep, context)
    model.text_embedding = None  # it must not be asked again
    assert torch.equal(model(x, timestep, text), expected)


@torch.no_grad()
@pytest.mark.parametrize("config", [KNOWING, BOTH], ids=["usual", "placed"])
@pytest.mark.parametrize("timestep", ["frames", "tokens"])
def test_cached_equals_uncached(timestep, config):
    model = make(config)
    x, context = inputs(config)
    t = {"frames": torch.tensor([[500.0, 0, 700]] * 2), "tokens": torch.rand(2, 18) * 999 + 1}
    t["tokens"][:, [2, 3, 11]] = 0
    # One sample with nothing known makes the known sets differ: the masked path, uncached.
    other = torch.cat((t[timestep], t[timestep][:1].clamp(min=1)))
    three, texts = torch.cat((x, x[:1])), torch.cat((context, context[:1]))
    expected = model(three, other, texts)[:2]
    cache = KnownCache()
    first = model(x, t[timestep], context, cache=cache)
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=0)
    held = [layer.k_BNSH.data_ptr() for layer in cache.layers]
    later = model(x, t[timestep], context, cache=cache)
    assert held == [layer.k_BNSH.data_ptr() for layer in cache.layers]
    torch.testing.assert_close(later, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_cache_is_filled_anew_when_known_tokens_or_text_change():
    model = make(KNOWING)
    x, context = inputs(KNOWING)
    timestep = torch.tensor([[0.0, 500, 700]] * 2)
    cache = KnownCache()
    model(x, timestep, context, cache=cache)
    for changed, text in ((x + 1, context), (x + 1, context + 1)):
        out = model(changed, timestep, text, cache=cache)
        expected = model(changed, timestep, text)
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("config", [TINY, KNOWING], ids=["all see all", "known differ"])
def test_a_cache_that_cannot_be_used_changes_nothing(config):
    model, (x, context) = make(config), inputs(config)
    timestep, cache = 500 * torch.eye(2, 3), KnownCache()
    out = model(x, timestep, context, cache=cache)
    assert torch.equal(out, model(x, timestep, context)) and not cache.layers


@torch.no_grad()
def test_known_tokens_do_not_feel_the_noise():
    model, usual = make(KNOWING), make(TINY)
    x, context = inputs(KNOWING)
    noisier = x.clone()
    noisier[:, :, 1:] += 1
    timestep = torch.tensor([[0.0, 500, 700], [0.0, 40, 40]])
    known = [model(v, timestep, context)[:, :, 0] for v in (x, noisier)]
    torch.testing.assert_close(*known, atol=1e-6, rtol=0)
    seeing = [usual(v, timestep, context)[:, :, 0] for v in (x, noisier)]
    assert (seeing[0] - seeing[1]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("runs", [1, 3, 18])
def test_a_video_that_is_all_known_sees_all_of_itself(runs):
    x, context = inputs(TINY)
    expected = make(TINY)(x, torch.zeros(2), context)
    out = make(KNOWING)(x, torch.zeros(2, runs), context)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("config", [TINY, KNOWING, BOTH], ids=["usual", "known", "placed"])
def test_packed_clips_equal_separate_ones(config):
    model = make(config)
    sizes = [(3, 4, 6), (1, 2, 4), (2, 6, 2)]
    clips = [inputs(config, 1, size, seed) for seed, size in enumerate(sizes)]
    tokens, grids = zip(*(patchify(x, config.patch) for x, _ in clips), strict=True)
    times = [torch.rand(1, g.tokens) * 1000 for g in grids]
    times[0][:, :6], times[2][:, 3:] = 0, 0
    starts = [0, 40, -7]
    positions = [g.positions() + s for g, s in zip(grids, starts, strict=True)]
    lengths = [g.tokens for g in grids]
    contexts = torch.cat([context for _, context in clips])
    packed_tokens, packed_positions = torch.cat(tokens, 1), torch.cat(positions)
    for steps in (times, [t.amax(1, keepdim=True) for t in times]):
        timestep = torch.cat(steps, 1) if steps is times else torch.cat(steps).squeeze(1)
        apart = [
            model.forward_tokens(*clip, context)
            for *clip, (_, context) in zip(tokens, positions, steps, clips, strict=True)
        ]
        packed = model.forward_tokens(packed_tokens, packed_positions, timestep, contexts, lengths)
        torch.testing.assert_close(packed, torch.cat(apart, 1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_packed_clips_with_a_cache_equal_those_without():
    model = make(KNOWING)
    x, contexts = inputs(KNOWING)
    tokens, grid = patchify(x, KNOWING.patch)
    packed, positions = tokens.flatten(0, 1)[None], grid.positions().repeat(2, 1)
    timestep = torch.rand(1, 36) * 999 + 1
    timestep[:, [0, 1, 20, 30, 35]] = 0
    lengths, cache = [18, 18], KnownCache()
    expected = model.forward_tokens(packed, positions, timestep, contexts, lengths)
    for _ in range(2):
        out = model.forward_tokens(packed, positions, timestep, contexts, lengths, cache=cache)
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    assert cache.lengths == (2, 3)


@torch.no_grad()
@pytest.mark.parametrize("config", [TINY, PLACED], ids=["usual", "placed"])
def test_the_order_of_tokens_does_not_matter(config):
    model = make(config)
    x, context = inputs(config)
    tokens, grid = patchify(x, TINY.patch)
    order = torch.randperm(grid.tokens)
    timestep = torch.rand(2, grid.tokens) * 1000
    out = model.forward_tokens(tokens, grid.positions(), timestep, context)
    mixed = model.forward_tokens(
        tokens[:, order], grid.positions()[order], timestep[:, order], context
    )
    torch.testing.assert_close(mixed, out[:, order], atol=1e-5, rtol=0)


@torch.no_grad()
def test_only_a_position_table_tells_tokens_where_they_are():
    """Rotary angles know differences alone: moved as a whole, tokens of noise look the same."""
    for config, told in ((TINY, False), (PLACED, True)):
        model = make(config)
        noise, context = inputs(config)
        tokens, grid = patchify(noise, config.patch)
        run = (torch.tensor([1000.0, 1000.0]), context)
        here = model.forward_tokens(tokens, grid.positions(), *run)
        for move in torch.eye(3, dtype=torch.int64) * 3:
            there = model.forward_tokens(tokens, grid.positions() + move, *run)
            if told:
                assert (here - there).abs().max() > 1e-2
            else:
                torch.testing.assert_close(here, there, atol=1e-5, rtol=0)


@torch.no_grad()
def test_tokens_of_the_same_noise_differ_by_their_place_alone():
    for config, told in ((TINY, False), (PLACED, True)):
        model = make(config)
        noise, context = inputs(config)
        tokens, grid = patchify(noise, config.patch)
        same = tokens[:, :1].expand_as(tokens)
        out = model.forward_tokens(same, grid.positions(), torch.tensor([1000.0, 1000.0]), context)
        assert bool(out.std(dim=1).max() > 1e-3) == told


@torch.no_grad()
def test_a_position_table_of_zeros_is_no_table():
    placed, usual = make(PLACED), make(TINY)
    weights = placed.state_dict()
    usual.load_state_dict(
        {name: w for name, w in weights.items() if not name.startswith("position_embedding")}
    )
    x, context = inputs(TINY)
    timestep = torch.tensor([500.0, 20.0])
    expected = usual(x, timestep, context)
    assert (placed(x, timestep, context) - expected).abs().max() > 1e-2
    for parameter in placed.position_embedding[2].parameters():
        parameter.zero_()
    assert torch.equal(placed(x, timestep, context), expected)


@torch.no_grad()
def test_some_tokens_of_a_placed_video_are_those_of_the_whole():
    """Sparse: what is known stays in the cache, and the others alone give what they gave."""
    model = make(BOTH)
    x, context = inputs(BOTH)
    tokens, grid = patchify(x, BOTH.patch)
    timestep = torch.full((2, grid.tokens), 600.0)
    timestep[:, :12] = 0
    whole = model.forward_tokens(tokens, grid.positions(), timestep, context)
    known = model.forward_tokens(tokens[:, :12], grid.positions()[:12], timestep[:, :12], context)
    torch.testing.assert_close(known, whole[:, :12], atol=1e-5, rtol=0)
    each = grid.positions().expand(2, -1, -1)  # positions of each sample
    torch.testing.assert_close(
        model.forward_tokens(tokens, each, timestep, context), whole, atol=1e-6, rtol=0
    )


@torch.no_grad()
@pytest.mark.parametrize("frames", [[100.0, 700, 100], [100.0] * 9 + [700] * 9])
def test_modulation_is_computed_once_for_each_distinct_timestep(frames):
    model = make(TINY)
    x, context = inputs(TINY)
    seen = []
    model.time_projection.register_forward_hook(lambda m, i, out: seen.append(len(out)))
    model(x, torch.tensor(frames).expand(2, -1), context)
    assert seen == [2]


@pytest.mark.parametrize("runs", [3, 18])
@pytest.mark.parametrize("same", [True, False])
def test_every_weight_learns_and_known_tokens_teach_too(runs, same):
    model = make(KNOWING).train()
    x, context = inputs(KNOWING)
    t = torch.linspace(10, 900, 2 * runs).view(2, runs)
    t[:, : runs // 3] = 0
    if not same:  # known sets that differ: the masked path
        t[1, 0] = 20
    out = model(x, t, context)
    known, unknown = out[:1, :, :1].square().mean(), out[:, :, 1:].square().mean()
    for loss in (known, unknown):
        grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        for (name, _), grad in zip(model.named_parameters(), grads, strict=True):
            assert grad.isfinite().all() and grad.any(), name


@torch.no_grad()
def test_narrow_types_stay_close():
    model = make(KNOWING)
    x, context = inputs(KNOWING)
    timestep = torch.tensor([[0.0, 500, 700], [10.0, 0, 3]])
    expected = model(x, timestep, context)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(x, timestep, context).float()
    narrow = model.bfloat16()(x.bfloat16(), timestep, context.bfloat16()).float()
    for out in (mixed, narrow):
        assert (out - expected).abs().mean() < 0.03 * expected.abs().mean()


@torch.no_grad()
def test_a_fresh_model_says_zero_and_a_host_brings_its_parts():
    calls = []

    def attention(q, k, v, mask=None):
        calls.append("attention")
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def cast(parameter, like):
        calls.append("cast")
        return parameter.to(like)

    model = PatchDiT(TINY, attention=attention, cast=cast)
    model.init_weights()
    weight = model.blocks[0].ffn[0].weight  # Xavier: uniform, of variance 2 / (ins + outs)
    assert weight.var().item() == pytest.approx(2 / sum(weight.shape), rel=0.1)
    x, context = inputs(TINY)
    assert model(x, torch.tensor([5.0, 6.0]), context).abs().max() == 0
    assert calls.count("attention") == 2 * TINY.layers
    assert calls.count("cast") == TINY.layers + 3  # blocks, head, patch embedding


@torch.no_grad()
def test_bad_input_is_one_sentence():
    model = make(TINY)
    x, context = inputs(TINY)
    tokens, positions = torch.zeros(1, 4, 16), Grid(1, 2, 2, TINY.patch).positions()
    t = torch.ones(2)
    cases = [
        (
            lambda: model(torch.zeros(2, 5, 3, 4, 6), t, context),
            "patches of 20 values; this model needs 16",
        ),
        (lambda: model(x, torch.ones(2, 5), context), r"timesteps \(2, 5\) for 2x18 tokens"),
        (lambda: model(x, t, context[..., :7]), "features 7 wide; this model needs 20"),
        (lambda: model(x, t, context[:1]), "1 prompts for 2 clips"),
        (lambda: model(x, t, context, torch.zeros(2, 3, 4)), "no image branch"),
        (
            lambda: model.forward_tokens(tokens, positions, t, context, [1, 2]),
            r"Clips of \[1, 2\] tokens need one row of 3 tokens; got 1x4",
        ),
        (
            lambda: model.forward_tokens(tokens, positions, torch.ones(1, 2), context, [2, 2]),
            r"timesteps \(1, 2\) for 1x4 tokens in 2 clips; need one per clip or per token",
        ),
        (lambda: model.forward_tokens(tokens, positions[:2], t[:1], context), "Got positions"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
