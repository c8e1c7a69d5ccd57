"""Reframe: the clip exact inside its new frame, windows, crops, the Prepare pair, messages."""

from __future__ import annotations

import pytest
import torch

from patchdit.nodes.api import InputImpl, Types
from patchdit.nodes.denoise import FinishDenoising, StartDenoising
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.footage import encode_clip, read_footage
from patchdit.nodes.reframe import PrepareReframe, Reframe
from patchdit.nodes.verbs import Sampling


@pytest.fixture
def clip():
    """Nine frames of 32x32 pixels."""
    torch.manual_seed(2)
    return torch.rand(9, 32, 32, 3)


@pytest.fixture
def prepare(model, vae):
    def prepare(video, aspect="width x height", **changed):
        settings = {"how": "widen", "width": 64, "height": 32, "anchor_x": 0.5, "anchor_y": 0.5}
        settings |= {"feather": 4, "window": 0, "fps": 8.0, "model": model, "aspect": aspect}
        return PrepareReframe.execute(video=video, vae=vae, **{**settings, **changed}).args

    return prepare


@pytest.fixture
def reframe(model, vae, prompts):
    def reframe(video, aspect="width x height", **changed):
        settings = {"how": "widen", "width": 64, "height": 32, "anchor_x": 0.5, "anchor_y": 0.5}
        settings |= {"feather": 4, "window": 0, "fps": 8.0, "model": model, "aspect": aspect}
        settings |= {"positive": prompts[0], "negative": prompts[1], "steps": 2, "cfg": 2.0}
        settings |= {"seed": 7, "context": 0, "checkpoint": False, "audio": None}
        return Reframe.execute(video=video, vae=vae, **{**settings, **changed}).args

    return reframe


def frames_of(video):
    return video.get_components().images


@pytest.mark.parametrize(
    ("changed", "rows", "columns"),
    [
        ({}, slice(0, 32), slice(16, 48)),
        ({"anchor_x": 1.0, "feather": 0}, slice(0, 32), slice(32, 64)),
        (
            {"width": 38, "height": 50, "anchor_x": 0.0, "anchor_y": 1.0},
            slice(18, 50),
            slice(0, 32),
        ),
        ({"aspect": "9:16 portrait"}, slice(16, 48), slice(0, 32)),
    ],
)
def test_the_clip_is_exact_inside(reframe, clip, changed, rows, columns):
    latent, video, seams, report = reframe(clip, **changed)
    frames = frames_of(video)
    assert torch.equal(frames[:, rows, columns], clip)
    assert frames.shape[1] * frames.shape[2] > 32 * 32 and seams == ""
    assert latent["video_fps"] == 8 and latent["samples"].shape[2] == 3
    assert f"at {columns.start} across and {rows.start} down, exactly" in report


def test_the_edge_fades_outside(reframe, vae, clip):
    latent, video, *_ = reframe(clip, feather=3)
    decoded = read_footage(latent, vae, 8.0).frames_FHWC
    frames = frames_of(video)
    for away, share in ((1, 0.75), (2, 0.5), (3, 0.25), (4, 0.0)):
        mixed = torch.lerp(decoded[:, :, 16 - away], clip[:, :, 0], share)
        assert torch.allclose(frames[:, :, 16 - away], mixed, atol=1e-6)


def test_the_video_holds_no_second_copy_of_the_clip(prepare, clip):
    _, plan = prepare(clip)
    (piece,) = plan.pieces
    assert piece.kept_FHWC.untyped_storage().data_ptr() == clip.untyped_storage().data_ptr()
    assert piece.kept_FHWC.shape == clip.shape and piece.kept_at == (0, 16)


def test_what_is_known_is_the_clips(prepare, vae, clip):
    latent, _ = prepare(clip)
    assert latent["noise_mask"].shape == (1, 1, 3, 4, 8)
    assert (latent["noise_mask"] == torch.tensor([1, 1, 0, 0, 0, 0, 1, 1.0])).all()
    columns = torch.arange(-16, 48).clamp(0, 31)
    assert torch.equal(latent["samples"], encode_clip(vae, clip[:, :, columns]))
    off, _ = prepare(clip, width=38, height=50, anchor_y=1.0, anchor_x=0.0)  # rows 18 .. 49 of 64
    assert off["samples"].shape[-2:] == (8, 6)
    assert off["noise_mask"][0, 0, 0, :, 0].tolist() == [1, 1, 1, 1, 0, 0, 1, 1]


def test_a_latent_keeps_its_own_latents(reframe, parts, vae, clip):
    own = {
        "samples": parts.vae.encode(clip.movedim(-1, 0)[None] * 2 - 1).detach(),
        "video_fps": 4.0,
    }
    latent, video, *_ = reframe(own)
    assert torch.equal(latent["samples"][..., 2:6], own["samples"])
    assert torch.equal(frames_of(video)[:, :, 16:48], read_footage(own, vae, 8.0).frames_FHWC)
    assert latent["video_fps"] == 4 and video.get_frame_rate() == 4


def test_a_crop_needs_no_model(reframe, clip, monkeypatch):
    monkeypatch.setattr(Sampling, "run", lambda *_: pytest.fail("nothing to generate"))
    _, video, seams, report = reframe(clip, width=20, height=26, anchor_x=1.0)
    assert torch.equal(frames_of(video), clip[:, 3:29, 12:])
    assert seams == "" and "20x26 from 12 across and 3 down" in report
    _, video, *_ = reframe(clip, "7:4 wide", how="crop")
    assert torch.equal(frames_of(video), clip[:, 8:24])


def test_cropped_one_way_and_widened_the_other(reframe, clip):
    _, video, _, report = reframe(clip, width=64, height=16)
    assert torch.equal(frames_of(video)[:, :, 16:48], clip[:, 8:24])
    assert "32x16 from 0 across and 8 down" in report


def test_long_clips_take_windows(reframe, monkeypatch):
    torch.manual_seed(3)
    clip, lengths, run = torch.rand(19, 32, 32, 3), [], Sampling.run

    def watched(self, latent, journal=None, window=0):
        lengths.append((window, latent["samples"].shape[2]))
        return run(self, latent, journal, window)

    monkeypatch.setattr(Sampling, "run", watched)
    latent, video, seams, report = reframe(clip, window=13, context=5)
    assert lengths == [(0, 4), (1, 4)] and seams == "13" and "2 windows" in report
    assert torch.equal(frames_of(video)[:, :, 16:48], clip)
    assert latent["samples"].shape[2] == 6 and latent["video_frames"] == 19


def test_sound_and_rate_stay(reframe, clip):
    audio = {"waveform": torch.rand(1, 1, 900), "sample_rate": 800}
    parts = Types.VideoComponents(images=clip, audio=audio, frame_rate=24)
    _, video, _, report = reframe(InputImpl.VideoFromComponents(parts))
    assert video.get_components().audio is audio and video.get_frame_rate() == 24
    assert "keeps its 24 fps; the model was trained at 8" in report


def test_prepare_and_finish_are_the_one_node(reframe, prepare, model, prompts, clip):
    _, video, _, report = reframe(clip, aspect="7:4 wide")
    latent, plan = prepare(clip, aspect="7:4 wide")
    positive, negative = prompts
    sigmas = Sampling(model, positive, negative, 7, 2, 2.0).sigmas(latent["samples"])
    (run,) = StartDenoising.execute(
        model, positive, negative, latent, sigmas, 7, 2.0, "euler", ""
    ).args
    (done,) = FinishDenoising.execute(run).args
    _, finished, seams, said = FinishVideo.execute(done, plan).args
    assert torch.equal(frames_of(finished), frames_of(video)) and (seams, said) == ("", report)


def test_inputs_stay_as_they_are(reframe, clip):
    before = clip.clone()
    frames_of(reframe(clip)[1])
    assert torch.equal(clip, before)


def test_bad_input_is_told_in_one_sentence(reframe, prepare, clip):
    with pytest.raises(ValueError, match=r"anchor_x is 1.5; need 0 to 1"):
        reframe(clip, anchor_x=1.5)
    with pytest.raises(ValueError, match=r"feather is -1 pixels; need 0 or more"):
        reframe(clip, feather=-1)
    with pytest.raises(ValueError, match="width is 33 pixels; need an even number"):
        reframe(clip, width=33)
    with pytest.raises(ValueError, match="aspect is 'round'"):
        reframe(clip, "round")
    with pytest.raises(ValueError, match=r"kept part of the clip is 8x32 pixels .* patch of 16"):
        reframe(clip[:, :, :8])
    with pytest.raises(ValueError, match=r"9 frames take 2 windows.* window longer"):
        prepare(clip, window=5)
    with pytest.raises(ValueError, match="32x16 pixels lies inside the clip"):
        prepare(clip, width=32, height=16)
    with pytest.raises(ValueError, match="no room after 2 known ones"):
        reframe(clip, window=5, context=5)
    with pytest.raises(ValueError, match="Setting window"):
        reframe(clip, window=6)
