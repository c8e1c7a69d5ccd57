"""ImageToVideo and Pin Frames' plan: what is given shows exactly, sound stays with it, messages."""

from __future__ import annotations

import av
import pytest
import torch

from patchdit.nodes import around_pins
from patchdit.nodes.denoise import FinishDenoising, StartDenoising
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.footage import encode_clip, read_footage
from patchdit.nodes.pin import ImageToVideo, PinFrames
from patchdit.nodes.verbs import Sampling

from .test_stitch import RATE, frames, latent, sound, video


@pytest.fixture
def settings(model, vae, prompts):
    positive, negative = prompts
    return {
        "vae": vae, "model": model, "positive": positive, "negative": negative, "seed": 3,
        "steps": 2, "cfg": 2.0, "seconds": 2.0, "frame": 0, "strength": 1.0, "fit": "crop",
        "width": 0, "height": 0, "fps": 0.0, "generate_fps": 0.0, "checkpoint": False,
    }  # fmt: skip


def animate(source, settings, **changes):
    made = ImageToVideo.execute(video=source, **{**settings, **changes})
    return made[0], made[1].get_components(), made[2], made[3]


def test_an_image_is_the_first_frame_bit_for_bit(settings):
    image = frames(1)
    whole, parts, seams, report = animate(image, settings)
    assert torch.equal(parts.images[:1], image)
    assert len(parts.images) == 17 and whole["samples"].shape == (1, 16, 5, 4, 4)
    assert torch.equal(whole["samples"][:, :, :1], encode_clip(settings["vae"], image))
    assert seams == "1" and whole["video_seams"] == (1,) and parts.frame_rate == 8
    assert report == (
        "17 frames (2.12 s at 8 fps).\nPinned frame 0 at strength 1 (held to the end)."
    )
    assert (parts.images.diff(dim=0).flatten(1).abs().amax(1) > 0).all()


def test_first_and_last_image_are_both_exact(settings):
    first, last = frames(1), 1 - frames(1)
    _, parts, seams, report = animate(first, settings, last_image=last)
    assert torch.equal(parts.images[:1], first) and torch.equal(parts.images[-1:], last)
    assert seams == "1, 16" and "Pinned frame 16" in report


@pytest.mark.parametrize(("frame", "start"), [(0, 0), (4, 4), (-9, 8)])
def test_a_video_is_where_it_was_put_with_its_sound(settings, frame, start):
    own, tone = frames(9), sound(9 / 8)
    _, parts, _, _ = animate(video(own, 8, tone), settings, frame=frame)
    assert torch.equal(parts.images[start : start + 9], own)
    heard, first = parts.audio["waveform"], start * RATE // 8
    ours = tone["waveform"]
    assert heard.shape[-1] == 17 * RATE // 8
    assert torch.equal(heard[..., first : first + ours.shape[-1]], ours)
    assert not heard[..., :first].any() and not heard[..., first + ours.shape[-1] :].any()


def test_a_latent_made_here_is_not_encoded_again(settings, vae):
    own = latent(3)
    whole, parts, _, _ = animate(own, settings)
    assert torch.equal(whole["samples"][:, :, :3], own["samples"])
    assert torch.equal(parts.images[:9], read_footage(own, vae, 8.0).frames_FHWC)


def test_a_video_of_another_rate_takes_the_models(settings):
    own = frames(9)
    _, parts, _, report = animate(video(own, 24), settings)
    assert parts.frame_rate == 8 and len(parts.images) == 17
    assert torch.equal(parts.images[:3], own[[0, 3, 6]])
    assert "The clip was changed from 24 to 8 fps: of its 9 frames, the nearest in time" in report


def test_an_image_keeps_its_size_or_takes_the_one_asked_for(settings):
    odd = torch.rand(1, 51, 70, 3)
    whole, parts, _, report = animate(odd, settings, seconds=0.5)
    assert torch.equal(parts.images[:1], odd) and parts.images.shape == (5, 51, 70, 3)
    assert whole["video_size"] == (51, 70) and whole["samples"].shape[3:] == (8, 10)
    assert "scaled" not in report
    _, parts, _, report = animate(odd, settings, seconds=0.5, height=32)
    assert parts.images.shape == (5, 32, 44, 3)
    assert "The clip was scaled from 70x51 to 44x32 pixels (crop)." in report
    _, parts, _, _ = animate(odd, settings, seconds=0.5, width=64, height=32)
    assert parts.images.shape == (5, 32, 64, 3)


@pytest.mark.parametrize("rate", [{"generate_fps": 12.0}, {"generate_fps": 30.0}, {"fps": 4.0}])
def test_a_single_image_has_no_rate(settings, rate):
    image = frames(1)
    _, parts, seams, report = animate(image, settings, **rate)
    assert seams == "1" and "changed" not in report and "to 1 " not in report
    assert torch.equal(parts.images[:1], image)
    assert (parts.images.diff(dim=0).flatten(1).abs().amax(1) > 0).all()


def test_a_latent_keeps_its_own_rate_and_seams(settings):
    own = {**latent(3, fps=16.0), "video_seams": (5,)}
    whole, parts, seams, _ = animate(own, settings)
    assert torch.equal(whole["samples"][:, :, :3], own["samples"]) and parts.frame_rate == 16
    assert seams == "5, 9"
    _, _, seams, _ = animate(whole, settings, seconds=4.0)
    assert seams == "5, 9, 33"


def held_in(monkeypatch) -> list:
    """The latent frames that each run holds."""
    held, run = [], Sampling.run
    means = lambda latent: latent["noise_mask"].mean((0, 1, 3, 4)).tolist()  # noqa: E731

    def noted(self, latent, *rest):
        held.append(means(latent))
        return run(self, latent, *rest)

    monkeypatch.setattr(Sampling, "run", noted)
    return held


@pytest.mark.parametrize(
    ("count", "frame", "expected"),
    [
        (13, 0, [0, 0, 0, 0, 1]),
        (14, 0, [0, 0, 0, 0, 1]),  # frame 13 is given, 14 to 16 are not
        (9, 7, [1, 1, 1, 0, 1]),  # 7 to 15: the group of 9 to 12 is whole
        (2, 9, [1, 1, 1, 0, 1]),  # nothing else would be known
        (1, 9, [1, 1, 1, 0, 1]),
    ],
)
def test_a_clip_is_not_held_still_at_its_ends(settings, monkeypatch, count, frame, expected):
    own, held = frames(count), held_in(monkeypatch)
    _, parts, _, _ = animate(own, settings, frame=frame)
    assert held == [expected] and torch.equal(parts.images[frame : frame + count], own)


def test_what_ends_the_video_is_not_held_still_at_its_beginning(settings, monkeypatch):
    ending, held = frames(6), held_in(monkeypatch)
    _, parts, seams, report = animate(frames(1), settings, last_image=ending)
    assert held == [[0, 1, 1, 1, 0]] and seams == "1, 11"
    assert torch.equal(parts.images[11:], ending)
    assert "stands for" not in report and "The model makes the rest of frames 9 to 16" in report


def test_weights_told_of_each_frame_make_what_no_image_shows(settings, monkeypatch):
    """Groups that a clip fills in part stay with the host's own way for such weights."""
    monkeypatch.setattr(around_pins, "native_kind", lambda model: "wan")
    own, held = frames(14), held_in(monkeypatch)
    _, parts, seams, report = animate(own, settings)
    assert held == [[0, 0, 0, 0, 0]] and seams == "14"
    assert torch.equal(parts.images[:14], own)
    assert "The model makes the rest of frames 0 to 16 around them." in report
    with pytest.raises(ValueError, match="of which all is given"):
        animate(frames(17), settings)


def test_an_odd_image_is_saved_with_a_pixel_more(settings, tmp_path):
    made = ImageToVideo.execute(video=torch.rand(1, 51, 71, 3), **{**settings, "seconds": 0.5})
    made[1].save_to(str(tmp_path / "odd.mp4"))
    with av.open(str(tmp_path / "odd.mp4")) as container:
        (stream,) = container.streams.video
        assert (stream.width, stream.height) == (72, 52)
        assert sum(1 for _ in container.decode(stream)) == 5


def test_a_prepared_latent_says_whose_plan_counts(vae):
    known = torch.ones(1, 1, 5, 4, 4)
    known[:, :, :2] = 0
    canvas = {"samples": torch.zeros(1, 16, 5, 4, 4), "noise_mask": known}
    *_, plan = PinFrames.execute(canvas, vae, frames(1), -1, 1.0, "crop").args
    assert "where that is of a Prepare node, Finish Video needs its plan" in plan.report


def test_a_last_image_may_share_the_group_that_a_clip_leaves_free(settings, monkeypatch):
    own, last, held = frames(10), 1 - frames(1), held_in(monkeypatch)
    _, parts, seams, _ = animate(own, settings, frame=4, last_image=last)
    assert held == [[1, 1, 0, 0, 0]] and seams == "4, 14, 16"
    assert torch.equal(parts.images[4:14], own) and torch.equal(parts.images[16:], last)


def test_sizes_of_both_images_and_the_length_are_told(settings):
    last, tone = torch.rand(1, 64, 96, 3), sound(60)
    _, parts, _, report = animate(frames(1), settings, last_image=last, seconds=5.0, audio=tone)
    assert "last_image was scaled from 96x64 to 32x32 pixels (crop)." in report
    assert "The last 54.88 s of the sound are cut off." in report
    assert "The model was trained at up to 33 frames" in report
    assert parts.audio["waveform"].shape[-1] == 41 * RATE // 8


def test_masks_follow_their_frames_to_another_rate(settings):
    mask = torch.zeros(9, 32, 32)
    mask[:, :, :16] = 1
    _, _, _, report = animate(video(frames(9), 24), settings, mask=mask)
    assert "in part (whole patches)" in report and "nearest in time make 3" in report


def test_a_run_with_a_journal_is_the_same(settings):
    plain, _, _, _ = animate(frames(1), settings)
    kept, _, _, _ = animate(frames(1), settings, checkpoint=True)
    assert torch.equal(plain["samples"], kept["samples"])


def test_what_is_held_for_a_while_or_in_part_is_not_pasted(settings):
    image = frames(1)
    _, weak, seams, _ = animate(image, settings, strength=0.5)
    assert not torch.equal(weak.images[:1], image) and seams == ""
    mask = torch.zeros(1, 32, 32)
    mask[:, :, :16] = 1
    _, part, seams, report = animate(image, settings, mask=mask)
    assert not torch.equal(part.images[:1], image) and seams == "" and "in part" in report


def test_pins_a_sampler_and_finish_video_are_the_same(settings, model, vae, prompts):
    image, canvas = frames(1), {"samples": torch.zeros(1, 16, 5, 4, 4), "video_fps": 8.0}
    whole, parts, seams, _ = animate(image, settings)
    pinned, report, plan = PinFrames.execute(canvas, vae, image, 0, 1.0, "crop").args
    sigmas = Sampling.of(settings, 3).sigmas(pinned["samples"])
    state = StartDenoising.execute(model, *prompts, pinned, sigmas, 3, 2.0, "euler", "").args[0]
    (done,) = FinishDenoising.execute(state).args
    again, clip, edges, words = FinishVideo.execute(done, plan).args
    assert torch.equal(again["samples"], whole["samples"]) and edges == seams and words == report
    assert torch.equal(clip.get_components().images, parts.images)


def test_a_still_that_fills_a_latent_frame_is_not_pasted_over_it(vae):
    canvas = {"samples": torch.zeros(1, 16, 5, 4, 4), "video_fps": 8.0}
    *_, plan = PinFrames.execute(canvas, vae, frames(1), 8, 1.0, "crop").args
    made = {"samples": torch.randn(1, 16, 5, 4, 4)}
    whole, clip, seams, _ = FinishVideo.execute(made, plan).args
    assert torch.equal(whole["samples"], made["samples"]) and seams == "8, 9"
    assert torch.equal(clip.get_components().images[8:9], frames(1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": 0.0}, "Setting seconds is 0; need more than 0"),
        ({"seconds": -1.0}, "Setting seconds is -1; need more than 0"),
        ({"seconds": 0.1}, "Setting seconds is 0.1, 1 frame at 8 fps, and 2 are given"),
        ({"frame": 17}, "Setting frame is 17 for 1 image; a clip of 17 frames takes 0 to 16"),
        ({"frame": 16}, "Setting seconds is 2 and the clip at frame 16 leaves no room for last"),
        ({"frame": 13}, "holds frames 13 to 16: make seconds longer, or frame smaller"),
        ({"width": 51}, "Setting width is 51 pixels; need an even number from 16 on, or 0"),
        ({"height": 8}, "Setting height is 8 pixels; need an even number from 16 on, or 0"),
        ({"last_image": torch.rand(0, 32, 32, 3)}, "Input last_image has no frames"),
        ({"last_image": torch.rand(32, 32, 3)}, "Input last_image is (32, 32, 3) (frames"),
        ({"width": 80000, "height": 80000}, "needs a latent of"),
        ({"last_image": frames(16)}, "Setting seconds is 2, of which all is given"),
        ({"strength": 0.0}, "Setting strength is 0"),
        ({"fit": "bent"}, "Setting fit is 'bent'; need one of crop, pad, stretch"),
        ({"mask": torch.ones(1, 10, 32)}, "The mask is 32x10 and the image 32x32"),
        ({"generate_fps": -8.0}, "Setting generate_fps is -8"),
    ],
)
def test_what_cannot_be_is_one_sentence(settings, changes, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as told:
        animate(frames(1), {**settings, "last_image": frames(1)}, **changes)
    assert words in str(told.value)


def test_a_plan_is_for_one_clip(vae):
    canvas = {"samples": torch.zeros(2, 16, 5, 4, 4)}
    pinned, _, plan = PinFrames.execute(canvas, vae, frames(1), 0, 1.0, "crop").args
    with pytest.raises(ValueError, match="a batch of 2 clips; a plan is for one"):
        FinishVideo.execute(pinned, plan)


def test_a_plan_is_of_the_last_pin(vae):
    canvas = {"samples": torch.zeros(1, 16, 5, 4, 4)}
    first, _, plan = PinFrames.execute(canvas, vae, frames(1), 0, 1.0, "crop").args
    both, _, _ = PinFrames.execute(first, vae, frames(1), -1, 1.0, "crop").args
    with pytest.raises(ValueError, match="at 0 and the latent's are at 0, 16: connect the plan of"):
        FinishVideo.execute(both, plan)


def test_a_canvas_of_odd_size_shows_the_whole_image(vae):
    canvas = {"samples": torch.zeros(1, 16, 3, 8, 10), "video_size": (50, 70), "video_fps": 8.0}
    image = torch.rand(1, 50, 70, 3)
    pinned, _, plan = PinFrames.execute(canvas, vae, image, 0, 1.0, "crop").args
    whole, clip, _, _ = FinishVideo.execute(pinned, plan).args
    assert torch.equal(clip.get_components().images[:1], image)
    assert whole["video_size"] == (50, 70) and clip.get_dimensions() == (70, 50)
    assert "video_shown" not in whole and "video_pins" not in whole


def test_pins_are_not_rounded_to_the_canvas(vae):
    canvas = {"samples": torch.zeros(1, 16, 3, 4, 4, dtype=torch.float16)}
    pinned, _, plan = PinFrames.execute(canvas, vae, frames(1), 0, 1.0, "crop").args
    assert torch.equal(pinned["samples"][:, :, :1], encode_clip(vae, frames(1)))
    assert plan.latent["samples"].dtype == torch.float32
