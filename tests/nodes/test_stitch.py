"""From one clip to another: both exact, of whatever size and rate, with their sound."""

from __future__ import annotations

import pytest
import torch

from patchdit.models.flow import denoise_step
from patchdit.nodes import host, sampling, transforming
from patchdit.nodes.denoise import FinishDenoising, StartDenoising
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.fitting import fit_frames
from patchdit.nodes.footage import read_footage
from patchdit.nodes.stitch import PrepareStitch, StitchVideos
from patchdit.nodes.verbs import Sampling
from patchdit.standalone.api import InputImpl, Types

RATE = 800


def frames(count, height=32, width=32, seed=0):
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(seed))


def sound(seconds, seed=0):
    samples = round(seconds * RATE)
    wave = torch.rand(1, 2, samples, generator=torch.Generator().manual_seed(seed)) - 0.5
    return {"waveform": wave, "sample_rate": RATE}


def video(images, fps, audio=None):
    parts = Types.VideoComponents(images=images, audio=audio, frame_rate=fps)
    return InputImpl.VideoFromComponents(parts)


def latent(latents, seed=0, fps=8.0):
    samples = torch.randn(1, 16, latents, 4, 4, generator=torch.Generator().manual_seed(seed))
    return {"samples": samples, "video_fps": fps}


@pytest.fixture
def pair(model, vae):
    """What both nodes take beside the clips."""
    return {
        "vae": vae, "model": model, "seconds": 1.0, "fit": "crop", "crossfade": 0.02, "fps": 8.0,
        "window": 33, "context": 0, "generate_fps": 0.0,
    }  # fmt: skip


@pytest.fixture
def settings(pair, prompts):
    positive, negative = prompts
    run = {"positive": positive, "negative": negative, "seed": 3, "steps": 2, "cfg": 2.0}
    return {**pair, **run, "mode": "bridge", "strength": 0.7, "checkpoint": False}


def stitched(a, b, settings, **changes):
    """LATENT, VIDEO's parts, seams and report."""
    made = StitchVideos.execute(video_a=a, video_b=b, **{**settings, **changes})
    return made[0]["samples"], made[1].get_components(), made[2], made[3]


def test_a_latent_notes_seams_only_where_its_own_frames_have_them(settings):
    """A gives up frames at its front and B gains some at its end: as many, and elsewhere."""
    made = StitchVideos.execute(
        video_a=frames(16), video_b=frames(5, seed=1), **settings | {"mode": "transform"}
    )
    latent, video = made[0], made[1]
    assert 1 + 4 * (latent["samples"].shape[2] - 1) == video.get_frame_count()
    assert "video_seams" not in latent


def test_both_clips_come_out_bit_for_bit_around_new_frames(settings):
    a, b = frames(9), frames(6, seed=1)
    samples, parts, seams, report = stitched(a, b, settings)
    assert len(parts.images) == 9 + 8 + 6
    assert torch.equal(parts.images[:9], a)
    assert torch.equal(parts.images[-6:], b)
    assert samples.shape == (1, 16, 3 + 2 + 1, 4, 4)
    assert seams == "9, 17"
    assert "9 frames of A and 6 of B by 8 frames (1.00 s at 8 fps) in 1 window" in report
    assert "Blend zone: none" in report


def test_the_seed_changes_the_bridge_and_nothing_else(settings):
    a, b = frames(9), frames(8, seed=1)
    one, other = (stitched(a, b, settings, seed=seed)[1].images for seed in (1, 2))
    assert torch.equal(one[:9], other[:9]) and torch.equal(one[17:], other[17:])
    assert not torch.equal(one[9:17], other[9:17])


def test_latents_are_given_out_as_they_came(settings, vae):
    a, b = latent(3), latent(4, seed=1)
    samples, parts, seams, _ = stitched(a, b, settings)
    assert torch.equal(samples[:, :, :3], a["samples"])
    assert torch.equal(samples[:, :, -3:], b["samples"][:, :, 1:])
    first, second = (read_footage(each, vae, 8.0).frames_FHWC for each in (a, b))
    assert torch.equal(parts.images[:9], first)
    assert torch.equal(parts.images[-13:], second)
    # B's own first frame stands where the last of the four new latents' frames would.
    made = 4 * (samples.shape[2] - 6) - 1
    assert len(parts.images) == 9 + made + 13 and seams == f"9, {9 + made}"


def test_a_long_bridge_takes_several_windows(settings):
    a, b = frames(9), frames(8, seed=1)
    samples, parts, seams, report = stitched(a, b, settings, window=17, seconds=3.0)
    assert len(parts.images) == 9 + 24 + 8 and samples.shape[2] == 3 + 6 + 2
    assert torch.equal(parts.images[:9], a) and torch.equal(parts.images[-8:], b)
    starts = [int(seam) for seam in seams.split(", ")]
    assert starts[0] == 9 and starts[-1] == 33 and len(starts) > 2
    assert f"in {len(starts) - 1} windows" in report


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_b_takes_the_size_of_a(settings, fit):
    a, b = frames(5, 40, 24), frames(4, 32, 48, seed=1)  # sides of A are no multiples of 16
    samples, parts, _, report = stitched(a, b, settings, fit=fit)
    assert parts.images.shape == (5 + 8 + 4, 40, 24, 3)
    assert torch.equal(parts.images[:5], a)
    assert torch.equal(parts.images[-4:], fit_frames(b, (40, 24), fit))
    assert samples.shape[3:] == (6, 4)
    assert f"scaled from 48x32 to 24x40 pixels ({fit})" in report


def test_b_takes_the_rate_of_a_by_the_frames_nearest_in_time(settings):
    a, b = frames(9), frames(12, seed=1)
    _, parts, _, report = stitched(video(a, 8), video(b, 24), settings)
    assert parts.frame_rate == 8
    assert torch.equal(parts.images[-4:], b[[0, 3, 6, 9]])
    assert "from 24 to 8 fps" in report


def test_new_frames_take_the_rate_of_a(settings):
    a, b = frames(25), frames(24, seed=1)
    _, parts, seams, report = stitched(video(a, 24), video(b, 24), settings)
    assert len(parts.images) == 25 + 26 + 24  # nine steps of 1/8 s are 27 of 1/24 s
    assert torch.equal(parts.images[:25], a) and torch.equal(parts.images[-24:], b)
    assert seams == "25, 51" and "Made at 8 fps, shown at 24" in report


def test_a_latent_keeps_its_rate(settings):
    _, parts, _, report = stitched(latent(3, fps=24.0), video(frames(24), 24), settings)
    assert parts.frame_rate == 24 and len(parts.images) == 9 + 24 + 24 and "Made at" not in report


def test_sound_stays_with_its_clip(settings):
    a, b = video(frames(9), 8, sound(9 / 8)), video(frames(8, seed=1), 8, sound(1.0, 1))
    _, parts, _, _ = stitched(a, b, settings, crossfade=0.0)
    wave = parts.audio["waveform"]
    assert wave.shape[-1] == round((9 + 8 + 8) / 8 * RATE)
    assert torch.equal(wave[..., :900], sound(9 / 8)["waveform"])
    assert not wave[..., 900:1700].any()
    assert torch.equal(wave[..., 1700:], sound(1.0, 1)["waveform"])


def test_sound_of_its_own_goes_before_the_videos(settings):
    own = sound(1.0, 5)
    _, parts, _, _ = stitched(frames(9), frames(8), settings, audio_b=own, crossfade=0.0)
    assert torch.equal(parts.audio["waveform"][..., -800:], own["waveform"])
    assert not parts.audio["waveform"][..., :-800].any()


@pytest.mark.parametrize("latents", [False, True])
def test_prepare_and_finish_are_the_one_node(pair, settings, latents):
    a, b = (latent(3), latent(3, 1)) if latents else (frames(9), frames(8, seed=1))
    start, plan = PrepareStitch.execute(video_a=a, video_b=b, **pair).result
    assert set(start["noise_mask"].unique().tolist()) == {0, 1}
    run = {name: settings[name] for name in ("model", "positive", "negative", "cfg", "seed")}
    sigmas = Sampling.of(settings, 3).sigmas(start["samples"])
    state = StartDenoising.execute(latent=start, sigmas=sigmas, solver="euler", seeds="", **run)[0]
    done = FinishDenoising.execute(state)[0]
    whole = FinishVideo.execute(done, plan).result
    samples, parts, seams, report = stitched(a, b, settings)
    assert torch.equal(whole[0]["samples"], samples)
    assert torch.equal(whole[1].get_components().images, parts.images)
    assert whole[2:] == (seams, report)


def test_transform_keeps_what_lies_outside_its_zone(settings):
    a, b = frames(17), frames(16, seed=1)
    samples, parts, seams, report = stitched(a, b, settings, mode="transform", seconds=2.0)
    assert len(parts.images) == 33 and samples.shape[2] == 3 + 4 + 2
    assert torch.equal(parts.images[:9], a[:9]) and torch.equal(parts.images[-8:], b[8:])
    assert not torch.equal(parts.images[9:17], a[9:])
    assert seams == "9, 25"
    assert "frames 9 to 24, in place of the last 8 frames of A and the first 8 of B" in report


def test_transform_of_latents_keeps_them(settings):
    a, b = latent(5), latent(5, 1)
    samples, parts, _, report = stitched(a, b, settings, mode="transform", seconds=2.0)
    assert torch.equal(samples[:, :, :3], a["samples"][:, :, :3])
    assert torch.equal(samples[:, :, -2:], b["samples"][:, :, 3:])
    assert len(parts.images) == 9 + 16 + 8 and "first 9 of B" in report


def test_transform_holds_clips_that_are_too_short(settings):
    a, b = frames(1), frames(2, seed=1)
    _, parts, _, report = stitched(a, b, settings, mode="transform", seconds=2.0)
    assert len(parts.images) == 1 + 16 + 2
    assert torch.equal(parts.images[:1], a) and torch.equal(parts.images[-2:], b)
    assert "last 0 frames of A and the first 0 of B" in report
    assert "A and B are too short for half of the change and are held in it." in report


def test_transform_moves_from_one_prompt_to_the_other(settings, prompts):
    a, b = frames(9), frames(8, seed=1)
    positive, negative = prompts
    go = {"mode": "transform", "seconds": 1.0}
    one = stitched(a, b, settings, **go)[0]
    assert torch.equal(one, stitched(a, b, settings, positive_b=positive, **go)[0])
    assert not torch.equal(one, stitched(a, b, settings, positive_b=negative, **go)[0])


def test_a_bridge_moves_from_one_prompt_to_the_other(settings, prompts):
    a, b = frames(9), frames(8, seed=1)
    positive, negative = prompts
    plain = stitched(a, b, settings)[0]
    same = stitched(a, b, settings, positive_b=positive)[0]
    assert torch.allclose(plain, same, atol=1e-5)
    assert not torch.allclose(plain, stitched(a, b, settings, positive_b=negative)[0], atol=1e-3)


def test_a_weak_transform_stays_near_the_plain_blend(settings):
    a, b = frames(9), frames(8, seed=1)
    go = {"mode": "transform", "seconds": 1.0, "steps": 4}
    weak, strong = (stitched(a, b, settings, strength=s, **go)[0] for s in (0.05, 1.0))
    plain = stitched(a, b, settings, strength=0.05, **{**go, "steps": 1})[0]
    assert (weak - plain).abs().mean() < (strong - plain).abs().mean()


def test_transform_of_another_rate_and_its_sound(settings):
    a, b = video(frames(49), 24, sound(49 / 24)), video(frames(48, seed=1), 24, sound(2.0, 1))
    go = {"mode": "transform", "seconds": 1.0, "crossfade": 0.0}
    _, parts, _, report = stitched(a, b, settings, **go)
    kept = 48 - 12
    assert torch.equal(parts.images[:37], a.get_components().images[:37])
    assert torch.equal(parts.images[-kept:], b.get_components().images[12:])
    wave, total = parts.audio["waveform"], len(parts.images)
    assert wave.shape[-1] == round(total / 24 * RATE)
    tail = round(kept / 24 * RATE)
    assert torch.equal(wave[..., -tail:], sound(2.0, 1)["waveform"][..., -tail:])
    assert "Made at 8 fps" in report


@pytest.mark.parametrize("go", [{"seconds": 3.0}, {"mode": "transform", "seconds": 2.0}])
def test_a_run_that_was_stopped_goes_on_with_the_same_result(settings, go, monkeypatch, tmp_path):
    folder = tmp_path / "journal"
    monkeypatch.setattr(host, "journal_folder", lambda: folder)
    monkeypatch.setattr(sampling.open_journal, "__defaults__", (0.0,))  # a state after every step
    a, b = frames(9), frames(8, seed=1)
    go = {**go, "window": 13, "steps": 3}
    steps, stop = [], 0

    def counted(state, denoiser):
        if len(steps) + 1 == stop:
            raise InterruptedError
        steps.append(state.step)
        return denoise_step(state, denoiser)

    for module in (sampling, transforming):
        monkeypatch.setattr(module, "denoise_step", counted)
    expected = stitched(a, b, settings, **go)[0]
    whole = len(steps)
    assert whole >= 6 and whole % 3 == 0  # several windows
    for stop in (2, 5, whole):
        steps.clear()
        with pytest.raises(InterruptedError):
            stitched(a, b, settings, checkpoint=True, **go)
        assert list(folder.iterdir())
        stop = 0
        assert torch.equal(stitched(a, b, settings, checkpoint=True, **go)[0], expected)
        assert len(steps) == whole  # none was taken twice
        assert not folder.exists()


def test_inputs_stay_as_they_were(settings):
    a, b = latent(3), latent(3, 1)
    copies = a["samples"].clone(), b["samples"].clone()
    stitched(a, b, settings, mode="transform")
    assert torch.equal(a["samples"], copies[0]) and torch.equal(b["samples"], copies[1])
    assert set(a) == set(b) == {"samples", "video_fps"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"video_b": None}, "video_b is not connected"),
        ({"seconds": 0.0}, "Setting seconds is 0"),
        ({"seconds": -1.0}, "Setting seconds is -1"),
        ({"window": 18}, "Setting window"),
        ({"generate_fps": -8.0}, "Setting generate_fps is -8"),
        ({"window": 5, "context": 5}, "context"),
        ({"context": 17}, "context"),
        ({"video_b": frames(4), "context": 9}, "After the new part there are 1 latent"),
        ({"window": 5}, "no room"),
        ({"video_a": frames(0)}, "has no frames"),
        ({"fit": "squeeze", "video_b": frames(4, 16, 16)}, "Setting fit"),
    ],
)
def test_what_cannot_be_is_one_sentence(pair, settings, changes, words):
    clips = {"video_a": frames(9), "video_b": frames(8)}
    for node, inputs in ((StitchVideos, settings), (PrepareStitch, pair)):
        with pytest.raises(ValueError, match=words) as error:
            node.execute(**{**clips, **inputs, **changes})
        assert "\n" not in str(error.value)


def test_prepare_takes_one_window_only(pair):
    with pytest.raises(ValueError, match=r"takes 3 windows; make it shorter .* or use Stitch"):
        PrepareStitch.execute(
            video_a=frames(9), video_b=frames(8), **{**pair, "seconds": 4.0, "window": 17}
        )


def test_sound_of_b_stays_with_its_frames_where_rates_are_nearly_one(settings):
    """29.5 counts as 30 for a short clip; over a long one B's frames are placed anew."""
    a, b = frames(9), frames(100, seed=1)
    _, parts, _, report = stitched(video(a, 30.0), video(b, 29.5), settings)
    assert "changed from 29.5 to 30 fps" in report
    assert len(parts.images) - 9 - round(100 * 30 / 29.5) == pytest.approx(30, abs=4)
