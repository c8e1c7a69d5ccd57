"""The verbs with a VAE of eight frames and 32 pixels a latent cell, as LTX's is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from patchdit.models.config import TransformerConfig
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE
from patchdit.nodes import host
from patchdit.nodes.api import io
from patchdit.nodes.decode import DecodeVideo
from patchdit.nodes.denoise import FinishDenoising, StartDenoising
from patchdit.nodes.empty_latent import EmptyVideoLatent
from patchdit.nodes.encode import EncodeVideo
from patchdit.nodes.estimate_cost import EstimateCost
from patchdit.nodes.extend import ExtendVideo, PrepareExtend
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.footage import encode_clip, encode_ending, grid_of, read_footage
from patchdit.nodes.host.duck import decode_frames, temporal_stride
from patchdit.nodes.host.facts import stride_of
from patchdit.nodes.loop import LoopVideo
from patchdit.nodes.patchify import PatchifyLatent
from patchdit.nodes.pin import PinFrames
from patchdit.nodes.reframe import Reframe
from patchdit.nodes.remix import RemixVideo
from patchdit.nodes.sampling import begin
from patchdit.nodes.select_patches import SelectPatches
from patchdit.nodes.show_patches import ShowPatches
from patchdit.nodes.stitch import StitchVideos
from patchdit.nodes.storyboard import Shot, Storyboard
from patchdit.standalone.host import Session, use_session

from .conftest import VAE

ROWS, COLUMNS = 2, 3  # an odd number: a cell of 32 pixels is a patch by itself
HEIGHT, WIDTH = 32 * ROWS, 32 * COLUMNS
CHANNELS = 128
SIGMAS = torch.tensor([1.0, 0.5, 0.0])
WAYS = "forwards", "backwards"


def eightfold(channels):
    """A transformer and an autoencoder, tiny, with eight frames and 32 pixels a latent cell."""
    means = {"latent_mean": (0.0,) * channels, "latent_std": (1.0,) * channels}
    config = replace(
        VAE,
        latent_channels=channels,
        width_multipliers=(1, 2, 2, 2),
        spatial_downsample=(True, True, True),
        temporal_downsample=(True, True, True),
        **means,
    )
    network = TransformerConfig(
        48, 96, 3, 1, in_channels=channels, out_channels=channels, patch=(1, 1, 1), text_width=32,
        text_length=16, frame_timesteps=True, known_attends_known=True,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return PatchDiT(network).eval(), VideoVAE(config).eval()


@pytest.fixture(scope="module")
def case(parts):
    """The inputs that verbs share, with LTX's numbers; windows of 33 frames, 5 latents."""
    transformer, vae = eightfold(CHANNELS)
    clip = host.make_clip(parts.text, parts.tokenizer)
    prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a ball", "")]
    return {
        "model": host.make_model(transformer, vae), "vae": host.make_vae(vae), "clip": clip,
        "positive": prompts[0], "negative": prompts[1], "steps": 1, "cfg": 1.0, "fps": 8.0,
        "window": 33,
    }  # fmt: skip


def run(node: type[io.ComfyNode], case, **given) -> tuple:
    """A node's outputs, from the case, its own defaults and what is given; lists of one opened."""
    sockets = node.GET_SCHEMA().inputs
    defaults = {s.id: s.default for s in sockets if getattr(s, "default", None) is not None}
    ours = {name: value for name, value in case.items() if name in {s.id for s in sockets}}
    outputs = node.execute(**{**defaults, **ours, **given}).args
    return tuple(out[0] if isinstance(out, list) else out for out in outputs)


def clip(frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frames, HEIGHT, WIDTH, 3, generator=generator)


def shown(video):
    return video.get_components().images


def decoded(case, samples):
    return torch.cat([*decode_frames(case["vae"], samples)])


def test_the_vae_and_the_model_say_it(case):
    assert temporal_stride(case["vae"]) == stride_of(case["model"]) == 8
    assert grid_of(case["vae"]) == 32
    assert encode_clip(case["vae"], clip(17)).shape == (1, CHANNELS, 3, ROWS, COLUMNS)
    with pytest.raises(ValueError, match="ending of 12 frames: the count must be a multiple of 8"):
        encode_ending(case["vae"], clip(12))


@pytest.mark.parametrize(
    ("frames", "fit", "latents", "back"),
    [(17, "pad", 3, 17), (12, "pad", 3, 12), (12, "trim", 2, 9), (2, "pad", 2, 2)],
)
def test_encoding_and_decoding_keep_the_length(case, frames, fit, latents, back):
    latent, *_ = run(EncodeVideo, case, video=clip(frames), fit=fit)
    assert latent["samples"].shape == (1, CHANNELS, latents, ROWS, COLUMNS)
    video, *_ = run(DecodeVideo, case, latent=latent, fps=0.0)
    assert video.get_frame_count() == back and len(shown(video)) == back
    assert torch.equal(shown(video), decoded(case, latent["samples"])[:back])
    with pytest.raises(ValueError, match=r"1 \+ 8k frames; got 12, nearest 9 or 17"):
        run(EncodeVideo, case, video=clip(12), fit="error")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("frames", "seconds", "new"), [(17, 1.0, 8), (12, 0.5, 4), (1, 5.0, 40)])
def test_extending_keeps_the_clip(case, way, frames, seconds, new):
    own = clip(frames)
    latent, video, seams, report = run(ExtendVideo, case, video=own, direction=way, seconds=seconds)
    frames_FHWC, samples = shown(video), latent["samples"]
    assert len(frames_FHWC) == frames + new == video.get_frame_count()
    kept = frames_FHWC[:frames] if way == "forwards" else frames_FHWC[new:]
    assert torch.equal(kept, own) and samples.isfinite().all()
    assert str(frames if way == "forwards" else new) in seams.split(", ")
    assert f"by {new} frames" in report
    if way == "forwards" and frames == 17:
        assert torch.equal(samples[:, :, :3], encode_clip(case["vae"], own))
        assert samples.shape[2] == 4


@pytest.mark.parametrize("way", WAYS)
def test_a_latent_is_extended_without_being_encoded_again(case, way):
    own, *_ = run(EncodeVideo, case, video=clip(17), fit="error")
    latent, video, seams, _ = run(ExtendVideo, case, video=own, direction=way, seconds=1.0)
    frames_FHWC, kept = shown(video), decoded(case, own["samples"])
    assert len(frames_FHWC) == 17 + 8 and seams == ("17" if way == "forwards" else "8")
    assert torch.equal(frames_FHWC[:17] if way == "forwards" else frames_FHWC[8:], kept)
    samples = latent["samples"]
    # backwards: eight frames more and the old first one, which is made anew, take two latents
    known = samples[:, :, :3] if way == "forwards" else samples[:, :, 2:]
    assert torch.equal(known, own["samples"][:, :, 0 if way == "forwards" else 1 :])
    part = read_footage(own, case["vae"], 8.0).part(0, 9)
    assert torch.equal(part.latent_1CTHW, own["samples"][:, :, :2])
    assert read_footage(own, case["vae"], 8.0).part(0, 5).latent_1CTHW is None


@pytest.mark.parametrize(("window", "said"), [(21, "nearest 17 or 25"), (18, "nearest 17 or 25")])
def test_a_window_is_1_and_8k_frames(case, window, said):
    with pytest.raises(ValueError, match=rf"Setting window: A clip has 1 \+ 8k frames; .*{said}"):
        run(ExtendVideo, case, video=clip(1), window=window)


def test_the_two_halves_of_a_verb_and_steps_between_them(case):
    own = clip(17)
    latent, plan = run(PrepareExtend, case, video=own, seconds=2.0, window=0)
    assert latent["samples"].shape[2] == 5
    assert latent["noise_mask"][0, 0, :, 0, 0].tolist() == [0, 0, 0, 1, 1]
    start, *_ = run(StartDenoising, case, latent=latent, sigmas=torch.tensor([1.0, 0.0]), seed=1)
    (done,) = FinishDenoising.execute(start).args
    _, video, *_ = FinishVideo.execute(done, plan).args
    assert torch.equal(shown(video)[:17], own) and video.get_frame_count() == 33


@pytest.mark.parametrize("mode", ["bridge", "transform"])
@pytest.mark.parametrize("latents", [False, True])
def test_stitching(case, mode, latents):
    a, b = clip(17, 1), clip(25, 2)
    if latents:
        given = [run(EncodeVideo, case, video=one)[0] for one in (a, b)]
        a, b = (decoded(case, one["samples"]) for one in given)
    else:
        given = [a, b]
    latent, video, _, report = run(
        StitchVideos, case, video_a=given[0], video_b=given[1], mode=mode, seconds=2.0
    )
    frames, samples = shown(video), latent["samples"]
    assert torch.equal(frames[0], a[0]) and torch.equal(frames[-1], b[-1])
    assert samples.isfinite().all() and len(frames) == video.get_frame_count()
    if mode == "bridge":
        made = 16 - latents  # the last of them stands for B's own first image
        assert len(frames) == 17 + made + 25 and f"by {made} frames" in report
        assert torch.equal(frames[:17], a) and torch.equal(frames[-25:], b)
    else:
        assert torch.equal(frames[:9], a[:9])  # the zone takes A's last group of eight
        assert f"in place of the last 8 frames of A and the first {8 + latents} of B" in report
        assert torch.equal(frames[25:], b[8 + latents :])


def test_a_loop_closes(case):
    own = clip(17)
    _, video, seams, report = run(LoopVideo, case, video=own, seconds=1.0)
    assert len(shown(video)) == 17 + 8 and torch.equal(shown(video)[:17], own)
    assert seams == "17" and "with 8 frames (1.00 s" in report


def test_pins_hold_groups_of_eight(case):
    size = {"width": WIDTH, "height": HEIGHT, "length_in": "frames", "frames": 25}
    canvas, *_ = run(EmptyVideoLatent, case, **size)
    assert canvas["samples"].shape == (1, CHANNELS, 4, ROWS, COLUMNS)
    images = clip(3)
    first, report, _ = run(PinFrames, case, latent=canvas, images=images[:1])
    assert report == "Pinned frame 0 at strength 1 (held to the end)."
    last, report, _ = run(PinFrames, case, latent=first, images=images[1:2], frame=-1)
    assert "Eight frames are one latent frame: frames 17 to 24 are pinned together" in report
    assert last["noise_mask"].mean((0, 1, 3, 4)).tolist() == [0, 1, 1, 0]
    still = encode_ending(case["vae"], images[1:2].expand(8, -1, -1, -1))
    assert torch.equal(last["samples"][:, :, 3:], still)
    assert torch.equal(last["samples"][:, :, :1], encode_clip(case["vae"], images[:1]))
    with pytest.raises(ValueError, match="one latent frame holds frames 17 to 24"):
        run(PinFrames, case, latent=last, images=images[:1], frame=20)
    start, *_ = run(StartDenoising, case, latent=last, sigmas=SIGMAS)
    samples = FinishDenoising.execute(start).args[0]["samples"]
    for known in (0, 3):
        assert torch.equal(samples[:, :, known], last["samples"][:, :, known])
    assert (samples[:, :, 1:3] != 0).all()


def test_masks_in_pixels_count_in_the_models_groups(case):
    """Sixteen channels say four frames a latent frame; the model, as Cosmos's, says eight."""
    mask = torch.ones(17, HEIGHT, WIDTH)
    mask[1:9] = 0
    latent = {"samples": torch.randn(1, 16, 3, ROWS, COLUMNS), "noise_mask": mask}
    prompts = case["positive"], case["negative"]
    started = begin(host.make_model(*eightfold(16)), *prompts, 1.0, latent, SIGMAS, 1)
    assert started.state.mask.mean((0, 1, 3, 4)).tolist() == [1, 0, 1]


def test_remixing_a_region_keeps_the_rest(case):
    own, mask = clip(12), torch.zeros(1, HEIGHT, WIDTH)
    mask[..., 64:] = 1
    latent, video, *_ = run(RemixVideo, case, video=own, method="noise", mask=mask)
    assert latent["samples"].shape == (1, CHANNELS, 3, ROWS, COLUMNS)
    assert latent["video_frames"] == 12
    assert torch.equal(shown(video)[:, :, :64], own[:, :, :64])
    assert (shown(video)[:, :, 72:] != own[:, :, 72:]).any() and len(shown(video)) == 12


def test_reframing_keeps_the_clip(case):
    own = clip(12)
    latent, video, *_ = run(
        Reframe, case, video=own, aspect="width x height", width=WIDTH + 64, height=HEIGHT
    )
    assert latent["samples"].shape == (1, CHANNELS, 3, ROWS, COLUMNS + 2)
    assert torch.equal(shown(video)[:, :, 32 : 32 + WIDTH], own) and len(shown(video)) == 12


def test_a_storyboard_counts_in_groups_of_eight(case, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "journal_folder", lambda: tmp_path)
    (shots,) = Shot.execute("rolls", 2.0, "still", "cut", -1, False).args
    (shots,) = Shot.execute("stops", 1.0, "still", "continue", -1, False, shots).args
    size = {"width": WIDTH, "height": HEIGHT, "subject": "a ball", "negative": ""}
    latent, video, seams, report = run(Storyboard, case, shots=shots, **size)
    assert latent["samples"].shape[2] == 3 + 1 and len(shown(video)) == 17 + 8
    assert seams == "17" and "25 frames (3.12 s at 8 fps)" in report


def test_patches_are_chosen_by_frames_of_eight(case):
    latent, *_ = run(EncodeVideo, case, video=clip(17))
    patches, *_ = run(PatchifyLatent, case, latent=latent, patch_h=1, patch_w=1)
    assert (patches.stride, patches.frames) == (8, 17)
    times = {"by": "time in frames", "start": 9.0, "end": 9.0}
    done = SelectPatches.execute(patches, **SELECT, **times)
    chosen = done.args[0].selected_BL.unflatten(1, (3, -1))[0]
    assert chosen.all(1).tolist() == [False, False, True] and not chosen[:2].any()
    assert done.ui["patchdit_grid"][0]["spans"] == [(0, 0), (1, 8), (9, 16)]
    assert len(ShowPatches.execute(patches, frame=16, item=0).args[0]) == 1
    with pytest.raises(ValueError, match="no frame 17 in a clip of 17"):
        ShowPatches.execute(patches, frame=17, item=0)
    mask = torch.zeros(17, HEIGHT, WIDTH)
    mask[8] = 1
    by_mask = SelectPatches.execute(patches, **SELECT, by="mask", mask=mask, start=0, end=-1)
    assert by_mask.args[0].selected_BL.unflatten(1, (3, -1))[0].all(1).tolist() == [0, 1, 0]
    box = {"by": "box in pixels", "start": 0, "end": -1} | SELECT
    box |= {"x": 64.0, "y": 32.0, "width": 32.0, "height": 32.0}
    cells = SelectPatches.execute(patches, **box).args[0].selected_BL[0]
    assert cells.unflatten(0, (3, ROWS, COLUMNS))[0].nonzero().tolist() == [[1, 2]]


def test_the_cost_is_that_of_groups_of_eight(case, tmp_path):
    size = {"width": WIDTH, "height": HEIGHT, "frames": 17}
    with use_session(Session(output_directory=tmp_path)):
        report, tokens, *_ = run(EstimateCost, case, **size)
        with pytest.raises(ValueError, match=r"1 \+ 8k frames; got 21"):
            run(EstimateCost, {"model": case["model"]}, frames=21)
    assert tokens == 3 * ROWS * COLUMNS
    assert f"{WIDTH}x{HEIGHT}, 17 frames: 3 latent frames, {tokens} tokens" in report


SELECT = {
    "combine": "replace", "invert": False, "x": 0.25, "y": 0.25, "width": 0.5, "height": 0.5,
    "share": 0.25, "seed": 0,
}  # fmt: skip


class Noisy:
    """A VAE whose decoder adds noise, as LTX's does."""

    latent_dim = 3

    def decode(self, latent_1CTHW):
        return torch.rand(1, 9, 4, 4, 3)


def test_a_decoder_that_adds_noise_gives_the_same_frames_every_time():
    before = torch.get_rng_state()
    one, other = (torch.cat([*decode_frames(Noisy(), torch.zeros(1))]) for _ in range(2))
    assert torch.equal(one, other) and one.shape == (9, 4, 4, 3)
    assert torch.equal(torch.get_rng_state(), before)
