"""The three ways of keeping what is known, and the conditioning that tells weights of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from patchdit.models.flow import finish
from patchdit.models.transformer import PatchDiT
from patchdit.nodes import host
from patchdit.nodes.denoise import DenoiseStep, FinishDenoising, StartDenoising
from patchdit.nodes.editing import edit_run
from patchdit.nodes.extend import ExtendVideo
from patchdit.nodes.host.duck import Model
from patchdit.nodes.host.native import CONCAT, OURS, VACE, fill_mode, native_kind, with_known
from patchdit.nodes.sampling import advance, begin
from patchdit.nodes.stitch import StitchVideos

from .conftest import TRANSFORMER
from .test_denoise import known_start, sigmas_of

PLAIN = replace(TRANSFORMER, frame_timesteps=False, known_attends_known=False, layers=2)
CONFIGS = {
    "wan": replace(PLAIN, in_channels=36),
    "vace": replace(PLAIN, vace_blocks=1, vace_channels=96),
}


def network_model(parts, config):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Model(PatchDiT(config).eval(), parts.vae)


@pytest.fixture(params=CONFIGS)
def native(request, parts):
    """A MODEL that is told what is known by conditioning, of either kind."""
    return network_model(parts, CONFIGS[request.param])


@pytest.fixture
def image_model(parts):
    return network_model(parts, CONFIGS["wan"])


def core(*names, channels=16, weight=None):
    """A MODEL of core's, as far as its class and its first weights say what it is."""
    kind = object
    for name in reversed(names):
        kind = type(name, (kind,), {})
    inner = kind()
    inner.latent_format = type("Format", (), {"latent_channels": channels})()
    inner.diffusion_model = torch.nn.Module()
    layer = torch.nn.Conv3d(weight or channels, 8, 1)
    inner.diffusion_model.patch_embedding = layer
    inner.diffusion_model.img_in = torch.nn.Module()
    inner.diffusion_model.img_in.proj = layer
    return type("Patcher", (), {"model": inner})()


REGION = torch.ones(1, 1, 3, 4, 4)
REGION[..., :2] = 0
FRAMES = torch.ones(1, 1, 3, 4, 4)
FRAMES[:, :, 0] = 0


@pytest.mark.parametrize(
    ("names", "channels", "weight", "mask", "way"),
    [
        (("WAN21",), 16, 16, FRAMES, "replace"),
        (("WAN21",), 16, 36, FRAMES, "native"),  # I2V, FLF2V, Fun-InP
        (("WAN21",), 16, 48, FRAMES, "replace"),  # control, of another meaning
        (("WAN21_Vace", "WAN21"), 16, 16, REGION, "native"),
        (("HostWan21", "WAN21"), 16, 36, None, "native"),
        (("WAN22", "WAN21"), 48, 48, FRAMES, "frames"),
        (("WAN22", "WAN21"), 48, 48, None, "frames"),
        (("WAN22", "WAN21"), 48, 48, REGION, "replace"),
        (("WAN22", "WAN21"), 48, 100, FRAMES, "native"),
        (("LTXV",), 128, 128, REGION, "frames"),
        (("HunyuanVideo",), 16, 16, FRAMES, "replace"),
        (("HunyuanVideoI2V", "HunyuanVideo"), 16, 33, FRAMES, "native"),
        (("HunyuanVideoSkyreelsI2V", "HunyuanVideo"), 16, 32, FRAMES, "native"),
        (("HunyuanVideo15", "HunyuanVideo"), 32, 65, FRAMES, "native"),
        (("HunyuanVideo15", "HunyuanVideo"), 32, 33, FRAMES, "replace"),
        (("Kandinsky5",), 16, 16, FRAMES, "replace"),
    ],
)
def test_cores_weights_by_class_and_channels(names, channels, weight, mask, way):
    assert fill_mode(core(*names, channels=channels, weight=weight), mask) == way


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({}, "replace"),
        ({"frame_timesteps": True}, "frames"),
        ({"in_channels": 36}, "native"),
        ({"in_channels": 36, "frame_timesteps": True}, "native"),
        ({"in_channels": 52}, "replace"),
        ({"vace_blocks": 1, "vace_channels": 96}, "native"),
    ],
)
def test_our_weights_by_config(parts, changes, way):
    model = Model(PatchDiT(replace(PLAIN, **changes)), parts.vae)
    assert fill_mode(model, FRAMES) == fill_mode(model, REGION) == way


def latent_of(frames=3, batch=1, seed=1):
    return torch.randn(batch, 16, frames, 4, 4, generator=torch.Generator().manual_seed(seed))


def grey(vae, latent, begun=0):
    """The encoding of a clip that shows the first `begun` latents and is grey after them."""
    frames = torch.full((9, 32, 32, 3), 0.5)
    if begun:
        own = torch.cat([*host.decode_frames(vae, latent[:, :, :begun])])
        frames[: len(own)] = own
    return host.encode_frames(vae, frames, lambda done: None)


def told(model, vae, latent, mask, prompts):
    positive, negative = with_known(model, vae, latent, mask, *prompts)
    keys = positive[0][1].keys() - prompts[0][0][1].keys()
    assert keys == negative[0][1].keys() - prompts[1][0][1].keys()
    return positive[0][1]


def test_an_image_model_is_shown_what_is_known_and_grey(image_model, vae, prompts):
    latent = latent_of()
    said = told(image_model, vae, latent, FRAMES, prompts)
    image, mask = (said[key] for key in CONCAT)
    assert torch.equal(image[:, :, :1], latent[:, :, :1])
    assert torch.equal(image[:, :, 1:], grey(vae, latent, 1)[:, :, 1:])
    assert torch.equal(mask, FRAMES.expand(-1, 4, -1, -1, -1))
    assert not any(key in values for prompt in prompts for _, values in prompt for key in CONCAT)


def test_what_is_known_at_the_end_or_in_a_region_is_put_into_grey(image_model, vae, prompts):
    latent, last = latent_of(), FRAMES.flip(2)
    for mask in (last, REGION):
        image = told(image_model, vae, latent, mask, prompts)[CONCAT[0]]
        assert torch.equal(image, torch.where(mask == 0, latent, grey(vae, latent)))


def test_each_video_of_a_batch_is_shown_its_own(image_model, vae, prompts):
    latent, mask = latent_of(batch=2), torch.cat((FRAMES, REGION))
    both = told(image_model, vae, latent, mask, prompts)[CONCAT[0]]
    for i in range(2):
        one = told(image_model, vae, latent[i : i + 1], mask[i : i + 1], prompts)[CONCAT[0]]
        assert torch.equal(both[i : i + 1], one)


def test_a_soft_mask_is_not_known(image_model, vae, prompts):
    positive, _ = with_known(image_model, vae, latent_of(), FRAMES.clamp(min=0.5), *prompts)
    assert positive[0][1] == prompts[0][0][1]


def test_vace_is_shown_what_is_known_grey_and_the_mask(parts, vae, prompts):
    model, latent, mask = network_model(parts, CONFIGS["vace"]), latent_of(), FRAMES.clone()
    mask[:, :, 1] = 0
    said = told(model, vae, latent, mask, prompts)
    (control,), (planes,), strengths = (said[key] for key in VACE)
    inactive, reactive = control.split(16, 1)
    assert torch.equal(inactive[:, :, :2], latent[:, :, :2])
    assert torch.equal(inactive[:, :, 2:], grey(vae, latent, 2)[:, :, 2:])
    assert torch.equal(reactive, grey(vae, latent)) and strengths == [1.0]
    # of 9 pixel frames, VACE's 3 nearest are frames 1, 4 and 7: of latents 1, 1 and 2
    assert planes.shape == (1, 64, 3, 4, 4)
    assert torch.equal(planes, mask[:, :, [1, 1, 2]].expand_as(planes))


@pytest.mark.parametrize("kind", ["wan", "vace"])
def test_what_is_known_takes_the_type_of_the_weights(parts, vae, prompts, kind):
    """Files of half precision are run as they are."""
    model = network_model(parts, CONFIGS[kind])
    model.network.bfloat16()
    run = begin(model, *prompts, 2.0, {"samples": latent_of(), "noise_mask": FRAMES},
                torch.tensor([1.0, 0.5, 0.0]), 1, vae=vae)  # fmt: skip
    assert finish(advance(run, 2).state).isfinite().all()


def test_hunyuan_is_shown_zeros_and_needs_no_vae(prompts):
    model, latent = core("HunyuanVideoI2V", weight=33), latent_of()
    image, mask = (told(model, None, latent, FRAMES, prompts)[key] for key in CONCAT)
    assert torch.equal(image, latent * (1 - FRAMES)) and torch.equal(mask, FRAMES)


def test_what_cores_nodes_said_stays_and_needs_no_vae(native, vae, prompts):
    key = (VACE if native_kind(native) == "vace" else CONCAT)[0]
    own = [[[features, {**values, key: 1}] for features, values in p] for p in prompts]
    assert with_known(native, None, latent_of(), FRAMES, *own) == (own[0], own[1])


def test_no_vae(native, prompts):
    latent = known_start(latent_of(), 1)
    with pytest.raises(ValueError, match=r"MODEL, Model, is told .* connect vae"):
        begun(native, prompts, latent, None)
    begun(native, prompts, {"samples": latent_of()}, None)  # nothing is known: none is needed


def begun(model, prompts, latent, vae, **schedule):
    return StartDenoising.execute(
        model, *prompts, latent, sigmas_of(latent, **schedule), 1, 2.0, "unipc", "", vae
    ).args[0]


def test_a_run_is_told_and_holds_nothing_until_its_end(native, vae, prompts):
    seen = []
    hook = native.network.register_forward_pre_hook(
        lambda _, args: seen.append((args[0].clone(), args[1].clone()))
    )
    latent = known_start(latent_of(), 1)
    run = begun(native, prompts, latent, vae)
    assert run.state.fill == "native"
    whole = FinishDenoising.execute(run).args[0]["samples"]
    hook.remove()
    clean = host.prepare_latent(native, latent)
    assert len(seen) == 8 and all(timestep.shape == (1,) for _, timestep in seen)
    assert all((x[:, :16, 0] - clean[:, :, 0]).abs().max() > 0.01 for x, _ in seen)
    if native_kind(native) == "wan":
        assert all((x[:, 20:, 0] - clean[:, :, 0]).abs().max() < 1e-5 for x, _ in seen)
        assert all(x[:, 16:20, 0].all() and not x[:, 16:20, 1:].any() for x, _ in seen)
    assert (whole - latent["samples"])[:, :, 0].abs().max() < 1e-5
    for _ in range(4):
        run, predicted, _ = DenoiseStep.execute(run, 1).args
        assert (predicted["samples"] - latent["samples"])[:, :, 0].abs().max() < 1e-5
    assert torch.equal(FinishDenoising.execute(run).args[0]["samples"], whole)


def test_what_is_known_matters(native, vae, prompts):
    one, other = (
        FinishDenoising.execute(begun(native, prompts, known_start(latent, 1), vae)).args[0]
        for latent in (latent_of(), latent_of() + 1)
    )
    assert (one["samples"] - other["samples"])[:, :, 1:].abs().max() > 1e-4


def test_an_edit_tells_anew(image_model, vae, prompts):
    latent = known_start(latent_of(), 1)
    run = DenoiseStep.execute(begun(image_model, prompts, latent, vae), 1).args[0]
    turned = edit_run(run, *prompts[::-1])
    for key in CONCAT:
        assert turned.positive[0][1][key] is run.positive[0][1][key]
    freed = edit_run(run, mask=torch.ones(1, 32, 32))
    assert OURS not in freed.positive[0][1] and not freed.positive[0][1].keys() & set(CONCAT)
    more = edit_run(run, latent=known_start(latent_of(seed=2), 2))
    expected = with_known(image_model, vae, latent_of(seed=2), 1 - known(2), *prompts)[0][0][1]
    assert torch.equal(more.positive[0][1][CONCAT[1]], expected[CONCAT[1]])
    assert (more.positive[0][1][CONCAT[0]] - expected[CONCAT[0]]).abs().max() < 1e-4


def known(frames):
    mask = torch.zeros(1, 1, 3, 4, 4)
    mask[:, :, :frames] = 1
    return mask


def test_verbs_hand_their_vae_on(native, vae, prompts):
    clip = torch.rand(9, 32, 32, 3)
    settings = {
        "vae": vae, "fps": 8.0, "model": native, "positive": prompts[0], "window": 21,
        "negative": prompts[1], "seed": 5, "steps": 1, "cfg": 2.0, "context": 0,
        "generate_fps": 0.0, "checkpoint": False, "seconds": 0.5,
    }  # fmt: skip
    extend = {"direction": "forwards", "from_frame": -1, "seeds": "", "drift_limit": 0.0}
    ((longer,), *_) = ExtendVideo.execute(video=clip, **settings, **extend).args
    assert torch.equal(longer["samples"][:, :, :3], host.encode_frames(vae, clip, lambda _: None))
    stitch = {"fit": "crop", "crossfade": 0.0, "strength": 0.7, "video_a": clip, "video_b": clip}
    for mode in ("bridge", "transform"):
        latent, video, *_ = StitchVideos.execute(**settings, **stitch, mode=mode).args
        frames = video.get_components().images
        assert latent["samples"].isfinite().all() and torch.equal(frames[-1], clip[-1])
