"""A clip that ends where it begins: its own frames exact, the way back new, the wrap measured."""

from __future__ import annotations

import re

import pytest
import torch

from patchdit.models.seams import judge, measure
from patchdit.nodes.denoise import FinishDenoising, StartDenoising
from patchdit.nodes.extension import extent_from
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.footage import read_footage
from patchdit.nodes.joining import fill_joint, plan_of, prepare_loop
from patchdit.nodes.loop import LoopVideo, PrepareLoop
from patchdit.nodes.verbs import Sampling

from .test_stitch import RATE, frames, latent, sound, video


@pytest.fixture
def clip(model, vae):
    """What both nodes take beside the video."""
    return {
        "vae": vae, "model": model, "seconds": 1.0, "crossfade": 0.02, "fps": 8.0,
        "window": 33, "context": 0, "generate_fps": 0.0,
    }  # fmt: skip


@pytest.fixture
def settings(clip, prompts):
    positive, negative = prompts
    run = {"positive": positive, "negative": negative, "seed": 3, "steps": 2, "cfg": 2.0}
    return {**clip, **run, "checkpoint": False}


def looped(source, settings, **changes):
    made = LoopVideo.execute(video=source, **{**settings, **changes})
    return made[0]["samples"], made[1].get_components(), made[2], made[3]


def test_the_clip_comes_out_bit_for_bit_before_a_way_back(settings):
    own = frames(9)
    samples, parts, seams, report = looped(own, settings)
    assert len(parts.images) == 9 + 8 and samples.shape == (1, 16, 3 + 2, 4, 4)
    assert torch.equal(parts.images[:9], own)
    assert seams == "9" and "Closed a loop of 9 frames with 8 frames (1.00 s at 8 fps)" in report


def test_no_frame_comes_twice_and_nothing_plays_backwards(settings):
    own = frames(9)
    _, parts, _, _ = looped(own, settings)
    closing = parts.images[9:]
    apart = (closing[:, None] - own[None]).flatten(2).abs().amax(-1)
    assert (apart > 0).all()
    assert (closing.diff(dim=0).flatten(1).abs().amax(1) > 0).all()


def test_a_latent_comes_out_as_it_went_in(settings, vae):
    own = latent(3)
    samples, parts, _, _ = looped(own, settings)
    assert torch.equal(samples[:, :, :3], own["samples"])
    assert torch.equal(parts.images[:9], read_footage(own, vae, 8.0).frames_FHWC)
    assert len(parts.images) == 9 + 8 == 1 + 4 * (samples.shape[2] - 1)


def test_the_window_knows_both_ends_and_the_way_back_leads_to_the_first_frame(clip, vae):
    own = frames(9)
    footage = read_footage(own, vae, 8.0)
    job = prepare_loop(footage, extent_from(clip, 1.0, footage), 0.02)
    plan = plan_of(job)
    known = (plan.latent["noise_mask"][0, 0, :, 0, 0] == 0).tolist()
    assert known == [True] * 3 + [False] * 2 + [True] * 2
    made = plan.pieces[-1]
    assert (made.first, made.count) == (9, 8)
    assert torch.equal(made.before_HWC, own[-1]) and torch.equal(made.after_HWC, own[0])


def test_the_wrap_is_measured_against_the_clips_own_steps(settings):
    own = frames(9)
    _, parts, _, report = looped(own, settings)
    images = parts.images.double()
    wrap = (images[0] - images[-1]).abs().mean().item()
    p95 = torch.quantile((images[1:9] - images[:8]).abs().mean((1, 2, 3)), 0.95).item()
    words = r"first is ([\d.]+) of the range, (within|above) the bound of ([\d.]+)"
    step, verdict, bound = re.search(words, report).groups()
    assert float(step) == pytest.approx(wrap, abs=1e-4)
    assert float(bound) == pytest.approx(p95 + 1 / 255, abs=1e-4)
    assert verdict == ("within" if wrap <= p95 + 1 / 255 else "above")
    assert judge(measure(parts.images), loop=True, own=[(0, 9)]).seams[-1].frame == 0


def test_a_long_way_back_takes_several_windows(settings):
    own = frames(9)
    samples, parts, seams, report = looped(own, settings, window=17, seconds=3.0)
    assert len(parts.images) == 9 + 24 and samples.shape[2] == 3 + 6
    assert torch.equal(parts.images[:9], own)
    assert f"in {len(seams.split(', '))} windows" in report and "," in seams


def test_new_frames_take_the_rate_and_the_size_of_the_clip(settings):
    own = frames(49, 40, 24)
    _, parts, seams, _ = looped(video(own, 24), settings)
    assert parts.frame_rate == 24 and parts.images.shape == (49 + 26, 40, 24, 3)
    assert torch.equal(parts.images[:49], own) and seams == "49"


def test_seams_of_other_rates_are_frames_that_begin_a_part(clip, vae):
    """Of windows that end between two frames, or behind the last one shown."""
    for fps, generated, seconds in ((8.0, 24.0, 0.5), (1.0, 24.0, 4.0), (3.0, 8.0, 6.0)):
        changes = {"fps": fps, "generate_fps": generated, "window": 9, "context": 1}
        footage = read_footage(frames(9), vae, fps)
        job = prepare_loop(footage, extent_from({**clip, **changes}, seconds, footage), 0.02)
        plan = plan_of(job)
        assert len(job.lengths()) > 1 and plan.seams[0] == 9
        assert list(plan.seams) == sorted(set(plan.seams)) and plan.seams[-1] < 9 + job.shown


def test_sound_is_the_clips_and_then_silence(settings):
    source = video(frames(9), 8, sound(9 / 8))
    _, parts, _, _ = looped(source, settings, crossfade=0.0)
    wave = parts.audio["waveform"]
    assert wave.shape[-1] == round(17 / 8 * RATE)
    assert torch.equal(wave[..., :900], sound(9 / 8)["waveform"]) and not wave[..., 900:].any()
    faded = looped(source, settings, crossfade=0.1)[1].audio["waveform"]
    assert torch.equal(faded[..., :860], wave[..., :860])
    assert (faded[..., 860:900].abs() < wave[..., 860:900].abs()).all()


def test_prepare_and_finish_are_the_one_node(clip, settings):
    own = frames(9)
    start, plan = PrepareLoop.execute(video=own, **clip).result
    run = {name: settings[name] for name in ("model", "positive", "negative", "cfg", "seed")}
    sigmas = Sampling.of(settings, 3).sigmas(start["samples"])
    state = StartDenoising.execute(latent=start, sigmas=sigmas, solver="euler", seeds="", **run)[0]
    whole = FinishVideo.execute(FinishDenoising.execute(state)[0], plan).result
    samples, parts, seams, report = looped(own, settings)
    assert torch.equal(whole[0]["samples"], samples)
    assert torch.equal(whole[1].get_components().images, parts.images)
    assert whole[2] == seams and report.startswith(whole[3])


def test_what_is_filled_is_the_front_the_new_part_and_the_head(clip, vae):
    footage = read_footage(frames(9), vae, 8.0)
    job = prepare_loop(footage, extent_from(clip, 1.0, footage), 0.02)
    filled = fill_joint(job, lambda latent, mask: torch.where(mask == 1, 7.0, latent))["samples"]
    assert torch.equal(filled[:, :, :3], job.front_1CTHW)
    assert torch.equal(filled[:, :, 5:], job.head_1CTHW)
    assert (filled[:, :, 3:5] == 7).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"video": frames(1)}, "has 1 frame; a loop needs at least 2"),
        ({"video": latent(1)}, "has 1 frame; a loop needs at least 2"),
        ({"seconds": 0.0}, "Setting seconds is 0"),
        ({"seconds": -2.0}, "Setting seconds is -2"),
        ({"window": 18}, "Setting window"),
        ({"generate_fps": 0.01}, "Setting generate_fps is 0.01"),
        ({"generate_fps": float("nan")}, "Setting generate_fps is nan"),
        ({"context": 17}, "context"),
        ({"window": 5}, "no room"),
    ],
)
def test_what_cannot_be_is_one_sentence(clip, settings, changes, words):
    for node, inputs in ((LoopVideo, settings), (PrepareLoop, clip)):
        with pytest.raises(ValueError, match=words) as error:
            node.execute(**{"video": frames(9), **inputs, **changes})
        assert "\n" not in str(error.value)


def test_prepare_takes_one_window_only(clip):
    with pytest.raises(ValueError, match=r"windows; make it shorter .* or use Loop Video"):
        PrepareLoop.execute(video=frames(9), **{**clip, "seconds": 4.0, "window": 17})


def test_the_shortest_loop_has_two_frames(settings):
    own = frames(2)
    _, parts, _, _ = looped(own, settings)
    assert torch.equal(parts.images[:2], own) and len(parts.images) == 10
