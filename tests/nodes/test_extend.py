"""ExtendVideo, PrepareExtend and FinishVideo: the clip's own frames stay, whatever it is."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import cos, pi

import av
import pytest
import torch

from patchdit.models.assembly import Residual
from patchdit.models.journal import Journal
from patchdit.nodes import drift, extension, host
from patchdit.nodes.api import InputImpl, Types
from patchdit.nodes.denoise import FinishDenoising, StartDenoising
from patchdit.nodes.extend import ExtendVideo, PrepareExtend
from patchdit.nodes.extension import Extent, context_latents
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.footage import encode_clip
from patchdit.nodes.sigmas import FlowSigmas
from patchdit.standalone.host import Session, use_session

WAYS = "forwards", "backwards"


def noise(frames, height=32, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frames, height, width, 3, generator=generator)


def video(frames, fps, audio=None):
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=frames, audio=audio, frame_rate=Fraction(fps))
    )


def decoded(vae, latent):
    return torch.cat(list(host.decode_frames(vae, latent["samples"])))


@pytest.fixture
def settings(model, vae, prompts):
    """Everything but the clip, for ExtendVideo: eight frames a second in windows of 17."""
    positive, negative = prompts
    return {
        "vae": vae, "fps": 8.0, "audio": None, "model": model, "positive": positive,
        "negative": negative, "seed": 5, "steps": 2, "cfg": 2.0, "direction": "forwards",
        "seconds": 1.0, "from_frame": -1, "seeds": "", "window": 17, "context": 0,
        "generate_fps": 0.0, "drift_limit": 0.0, "checkpoint": False,
    }  # fmt: skip


@pytest.fixture
def extend(settings):
    """`extend(clip, **changes)`: LATENT, VIDEO, frames, seams and report of the one take."""

    def run(clip, **changes):
        outputs = ExtendVideo.execute(video=clip, **{**settings, **changes}).args
        (latent,), (result,), (seams,), (report,) = outputs
        return latent, result, result.get_components().images, seams, report

    return run


@pytest.fixture
def prepare(settings):
    def run(clip, **changes):
        ours = "positive", "negative", "seed", "steps", "cfg", "seeds", "drift_limit", "checkpoint"
        rest = {name: value for name, value in settings.items() if name not in ours}
        return PrepareExtend.execute(video=clip, **{**rest, **changes}).args

    return run


def own_part(shown, frames, way):
    """The clip's own frames of an extended one."""
    return shown[:frames] if way == "forwards" else shown[len(shown) - frames :]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("frames", [1, 2, 4, 5, 7, 8, 9, 22])
def test_images_come_out_bit_for_bit_whatever_their_number(extend, way, frames):
    clip = noise(frames)
    latent, _, shown, seams, _ = extend(clip, direction=way)
    assert len(shown) == frames + 8 and torch.equal(own_part(shown, frames, way), clip)
    assert seams.split(", ")[0 if way == "forwards" else -1] == str(
        frames if way == "forwards" else 8
    )
    assert latent["samples"].isfinite().all() and latent["video_fps"] == 8


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("height", "width"), [(17, 40), (48, 33), (1, 1)])
def test_any_size_comes_out_as_it_was(extend, way, height, width):
    clip = noise(6, height, width)
    latent, result, shown, _, _ = extend(clip, direction=way)
    assert torch.equal(own_part(shown, 6, way), clip)
    assert shown.shape[1:3] == (height, width) and result.get_dimensions() == (width, height)
    assert all(side % 2 == 0 for side in latent["samples"].shape[3:])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fps", [24, 30, 16, 12, 4, Fraction(30000, 1001), 25])
def test_another_frame_rate_keeps_own_frames_and_rate(extend, way, fps):
    clip = noise(20)
    _, result, shown, _, report = extend(video(clip, fps), direction=way, seconds=0.5)
    new = round(0.5 * float(fps))
    assert len(shown) == 20 + new == result.get_frame_count()
    assert torch.equal(own_part(shown, 20, way), clip)
    assert result.get_frame_rate() == fps and "Made at 8 fps" in report


@pytest.mark.parametrize("way", WAYS)
def test_a_rate_of_the_clip_own_is_not_converted(extend, way):
    clip = noise(9)
    *_, report = extend(video(clip, 24), direction=way, seconds=0.25, generate_fps=24.0)
    assert "Made at" not in report
    *_, shown, _, report = extend(clip, direction=way, generate_fps=16.0)
    assert "Made at 16 fps, shown at 8" in report and torch.equal(own_part(shown, 9, way), clip)


@pytest.mark.parametrize("latents", [1, 2, 3, 9])
def test_a_latent_stays_forwards_and_agrees_with_the_video(extend, vae, latents):
    given = {"samples": encode_clip(vae, noise(4 * latents - 3)), "video_fps": 12.0}
    before = given["samples"].clone()
    latent, result, shown, _, report = extend(given, seconds=0.5, window=33)
    T = latents
    assert torch.equal(latent["samples"][:, :, :T], before)
    assert torch.equal(given["samples"], before) and latent["video_fps"] == 12
    assert result.get_frame_rate() == 12 and "Made at" not in report
    own = decoded(vae, given)
    assert torch.equal(shown[: len(own)], own) and len(shown) == len(own) + 6
    if latents < 8:  # the window knew the whole clip: nothing to make up for
        plain = decoded(vae, latent)[: len(shown)]
        known = Residual(torch.zeros_like(own[-1]), own[-1])
        assert torch.allclose(shown[len(own) :], mended(plain[len(own) :], known), atol=1e-6)


@pytest.mark.parametrize("latents", [2, 3, 9])
def test_a_latent_stays_backwards_but_for_its_image(extend, vae, latents):
    given = {"samples": encode_clip(vae, noise(4 * latents - 3))}
    latent, _, shown, _, _ = extend(given, direction="backwards")
    known = given["samples"][:, :, 1:]
    own = decoded(vae, given)
    assert torch.equal(latent["samples"][:, :, -(latents - 1) :], known)
    assert torch.equal(shown[-len(own) :], own) and len(shown) == len(own) + 8
    assert latent["samples"].shape[2] == latents - 1 + 3  # 4 * 3 - 3 frames, the last the image's


def test_an_image_latent_has_its_beginning_right_before_it(extend, vae):
    """One latent is no suffix: the still is encoded as four frames, the first of them its own."""
    given = {"samples": encode_clip(vae, noise(1))}
    latent, _, shown, _, _ = extend(given, direction="backwards")
    own = decoded(vae, given)
    assert len(shown) == 9 and torch.equal(shown[-1:], own)
    from_frames, _, as_frames, _, _ = extend(own, direction="backwards")
    assert torch.equal(latent["samples"], from_frames["samples"])
    assert torch.equal(shown, as_frames)


def mended(new_FHWC: torch.Tensor, residual: Residual) -> torch.Tensor:
    """New frames, in the order of their distance to the clip, with the residual that fades."""
    frames = []
    for i, frame in enumerate(new_FHWC):
        residual = residual.carried_to(frame, seam=i == 0)
        share = cos((i + 1) / (len(new_FHWC) + 1) * pi / 2) ** 2
        frames.append(frame + share * residual.lost_HWC)
    return torch.stack(frames).clamp(0, 1)


@pytest.mark.parametrize("way", WAYS)
def test_the_new_frames_are_decoded_ones_and_a_residual_that_fades(extend, vae, way):
    clip = noise(9)
    latent, _, shown, _, _ = extend(clip, direction=way)
    plain = decoded(vae, latent)
    forwards = way == "forwards"
    if forwards:
        new, own, made = plain[9:17], Residual(clip[8] - plain[8], plain[8]), shown[9:]
    else:  # nine frames before the clip, of which eight were asked for
        new, own, made = plain[1:9], Residual(clip[0] - plain[9], plain[9]), shown[:8]
        new, made = new.flip(0), made.flip(0)
    assert torch.allclose(made, mended(new, own), atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_many_windows(extend, vae, way):
    clip = noise(17)
    latent, _, shown, seams, report = extend(clip, direction=way, seconds=6.0)
    assert len(shown) == 17 + 48 and torch.equal(own_part(shown, 17, way), clip)
    edges = [int(seam) for seam in seams.split(", ")]
    windows = int(report.split(" in ")[1].split()[0])
    assert len(edges) == windows >= 3 and edges == sorted(set(edges))
    assert (edges[0] if way == "forwards" else edges[-1]) == (17 if way == "forwards" else 48)
    parts = [0, *edges] if way == "backwards" else [*edges, 65]
    assert all(4 <= b - a <= 16 for a, b in pairwise(parts))
    own = encode_clip(vae, clip)
    if way == "forwards":
        assert torch.equal(latent["samples"][:, :, :5], own)
        assert latent["samples"].shape[2] == 5 + 12


@pytest.mark.parametrize("way", WAYS)
def test_no_window_is_longer_than_the_setting(extend, parts, way):
    seen = []
    hook = parts.transformer.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].shape[2])
    )
    try:
        extend(noise(40), direction=way, seconds=4.0, window=13, context=5)
    finally:
        hook.remove()
    assert max(seen) <= 4 and len(seen) >= 8


@pytest.mark.parametrize(
    ("new", "known"), [(1, 5), (4, 5), (5, 4), (6, 3), (7, 5), (12, 5), (200, 5)]
)
def test_windows_know_half_unless_one_that_knows_less_makes_all(new, known):
    """Of a window of 9 latent frames, Blockworld's; with 3 known a subject may be lost."""
    assert context_latents(Extent(False, 1.0, 9, 0, 8.0), 99, new) == known


def test_one_image_goes_on_through_windows_that_see_more_than_it(extend):
    *_, shown, _, report = extend(noise(1), seconds=8.0, window=33)
    assert len(shown) == 65 and "in 3 windows; each knows 1 frame or more" in report


def test_from_frame_drops_what_is_behind_or_before_it(extend):
    clip = noise(14)
    *_, shown, seams, _ = extend(clip, from_frame=6)
    assert torch.equal(shown[:7], clip[:7]) and len(shown) == 15 and seams.startswith("7")
    *_, shown, _, _ = extend(clip, from_frame=6, direction="backwards")
    assert torch.equal(shown[-8:], clip[6:]) and len(shown) == 16
    *_, shown, _, _ = extend(clip, from_frame=13, direction="backwards")
    assert torch.equal(shown[-1:], clip[13:]) and len(shown) == 9
    *_, shown, _, _ = extend(clip, from_frame=0)
    assert torch.equal(shown[:1], clip[:1]) and len(shown) == 9


def test_another_take_from_within_a_latent_keeps_its_latents(extend, vae):
    given = {"samples": encode_clip(vae, noise(13))}
    latent, _, shown, _, _ = extend(given, from_frame=4)
    assert torch.equal(latent["samples"][:, :, :2], given["samples"][:, :, :2])
    own = decoded(vae, given)
    assert torch.equal(shown[:5], own[:5])
    *_, shown, _, _ = extend(given, from_frame=6)  # within a group of four: encoded again
    assert torch.equal(shown[:7], own[:7])


@pytest.mark.parametrize("way", WAYS)
def test_several_seeds_are_the_single_runs(extend, settings, way):
    clip = noise(5)
    lists = ExtendVideo.execute(
        video=clip, **{**settings, "direction": way, "seeds": "3, 9 4", "seconds": 2.5}
    ).args
    assert [len(each) for each in lists] == [3] * 4
    for i, seed in enumerate((3, 9, 4)):
        latent, _, shown, seams, report = extend(clip, direction=way, seed=seed, seconds=2.5)
        assert torch.equal(lists[0][i]["samples"], latent["samples"])
        assert torch.equal(lists[1][i].get_components().images, shown)
        assert (lists[2][i], lists[3][i]) == (seams, report)
    assert not torch.equal(lists[0][0]["samples"], lists[0][1]["samples"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("clip", ["images", "video", "latent", "fits"])
def test_prepare_sample_finish_is_extend(extend, prepare, settings, vae, way, clip):
    kinds = {
        "images": lambda: noise(30),
        "video": lambda: video(noise(30), 24),
        "latent": lambda: {"samples": encode_clip(vae, noise(33))},
        "fits": lambda: noise(6),
    }
    given = kinds[clip]()
    latent, _, shown, seams, report = extend(given, direction=way)
    window, plan = prepare(given, direction=way)
    assert window["noise_mask"].shape == (1, 1, *window["samples"].shape[2:])
    sigmas = FlowSigmas.execute(window, 2, 1.0, 0.0).args[0]
    prompts = settings["positive"], settings["negative"]
    run = StartDenoising.execute(
        settings["model"], *prompts, window, sigmas, 5, 2.0, "euler", ""
    ).args[0]
    filled = FinishDenoising.execute(run).args[0]
    whole, result, marks, words = FinishVideo.execute(filled, plan).args
    assert torch.equal(whole["samples"], latent["samples"])
    assert torch.equal(result.get_components().images, shown)
    assert (marks, words) == (seams, report)


def test_finish_pastes_back_whatever_the_sampler_did(prepare):
    clip = noise(9)
    window, plan = prepare(clip)
    kept = window["samples"].clone()
    whole, result, _, _ = FinishVideo.execute({"samples": torch.randn(kept.shape)}, plan).args
    assert torch.equal(whole["samples"][:, :, :3], kept[:, :, :3])
    assert torch.equal(result.get_components().images[:9], clip)
    assert torch.equal(window["samples"], kept)


def test_finish_refuses_another_latent(prepare):
    window, plan = prepare(noise(9))
    with pytest.raises(ValueError, match="connect the latent of the same Prepare node"):
        FinishVideo.execute({"samples": window["samples"][:, :, :2]}, plan)
    with pytest.raises(ValueError, match="not numbers"):
        FinishVideo.execute({"samples": window["samples"] * float("nan")}, plan)


def test_prepare_refuses_more_than_one_window(prepare):
    with pytest.raises(ValueError, match=r"Setting seconds is 9, which takes \d windows"):
        prepare(noise(9), seconds=9.0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fps", [8, 24, Fraction(30000, 1001), 25])
@pytest.mark.parametrize("seconds", [0.1, 0.7])
def test_sound_is_as_long_as_the_picture_to_the_sample(extend, way, fps, seconds):
    rate, frames = 44100, 7
    own = round(Fraction(frames) / fps * rate)
    whole = torch.rand(1, 2, own + 1) + 0.5
    sound = {"waveform": whole, "sample_rate": rate}
    _, result, _, _, _ = extend(video(noise(frames), fps, sound), direction=way, seconds=seconds)
    out = result.get_components().audio
    total = round(Fraction(result.get_frame_count()) / fps * rate)
    assert out["waveform"].shape == (1, 2, total) and out["sample_rate"] == rate
    edge = round(0.02 * rate)
    new = result.get_frame_count() - frames
    if way == "forwards":
        assert torch.equal(out["waveform"][..., : own - edge], whole[..., : own - edge])
        assert not out["waveform"][..., own:].any()
    else:
        start = round(Fraction(new) / fps * rate)
        assert not out["waveform"][..., :start].any()
        kept = out["waveform"][..., start + edge :]
        assert torch.equal(kept, whole[..., edge : edge + kept.shape[-1]])
    assert torch.equal(sound["waveform"], whole)


def test_images_may_bring_a_sound(extend):
    sound = {"waveform": torch.ones(1, 1, 900), "sample_rate": 800}
    _, result, _, _, _ = extend(noise(9), audio=sound)
    assert result.get_components().audio["waveform"].shape == (1, 1, 1700)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["images", "video", "latent"])
def test_a_chain_that_drifts_stops_and_keeps_what_it_has(extend, vae, way, kind):
    clip = noise(17)
    given = {"images": clip, "video": video(clip, 24)}.get(kind)
    given = {"samples": encode_clip(vae, clip)} if given is None else given
    full = extend(given, direction=way, seconds=6.0)
    latent, result, shown, seams, report = extend(
        given, direction=way, seconds=6.0, drift_limit=1e-6
    )
    own = decoded(vae, given) if kind == "latent" else clip
    assert "Stopped early" in report and "Stopped early" not in full[-1]
    assert 17 < len(shown) < len(full[2]) and result.get_frame_count() == len(shown)
    assert torch.equal(own_part(shown, 17, way), own) and len(seams.split(",")) == 1
    T = latent["samples"].shape[2]
    made, whole = latent["samples"], full[0]["samples"]
    same = made[:, :, -T + 1 :], whole[:, :, -T + 1 :]
    first = made[:, :, :T], whole[:, :, :T]
    assert torch.equal(*(first if way == "forwards" else same))


def test_a_wide_limit_does_not_stop(extend):
    assert "Stopped" not in extend(noise(17), seconds=6.0, drift_limit=1.0)[-1]


def test_padding_is_no_drift(vae):
    """A bright last column, padded to sixteen, would make the window look brighter."""
    frames = torch.zeros(5, 16, 17, 3)
    frames[:, :, -1] = 1
    latent = encode_clip(vae, frames)
    seen = torch.cat(list(host.decode_frames(vae, latent)))[:, :16, :17]
    clip = drift.Footage(vae, seen, 8.0)
    assert drift.drift_watch(clip, 1e-6)(latent, slice(0, None))


def test_the_clip_is_measured_once_and_windows_by_their_new_frames(vae, monkeypatch):
    frames = noise(9)
    window, measured = encode_clip(vae, noise(13, seed=1)), []
    made = torch.cat(list(host.decode_frames(vae, window)))[5:]
    both = drift.measure(torch.cat((frames, made)))
    moved = drift.judge(both, [9]).segments[1].drift.worst[1]
    measure = drift.measure
    monkeypatch.setattr(drift, "measure", lambda f: measured.append(len(f)) or measure(f))
    for limit, goes_on in ((moved, True), (moved * (1 - 1e-9), False)):  # to the last bit
        watch = drift.drift_watch(drift.Footage(vae, frames, 8.0), limit)
        assert measured == []  # a chain of one window is never watched
        assert [watch(window, slice(2, None)) for _ in range(3)] == [goes_on] * 3
        assert measured == [9, 8, 8, 8]
        measured.clear()


def test_joined_measures_are_those_of_both_clips_but_for_steps_across():
    one, other = noise(4), noise(3, seed=1)
    joined = drift.joined(drift.measure(one), drift.measure(other))
    both = drift.measure(torch.cat((one, other)))
    for name, values in vars(both).items():
        own = [1, 2, 3, 5, 6] if name == "step_F" else slice(None)
        assert torch.equal(getattr(joined, name)[own], values[own])


def test_a_beginning_at_the_clips_rate_is_encoded_without_a_copy_of_it(vae, monkeypatch):
    clip = drift.Footage(vae, noise(10), 8.0)
    seen = []
    monkeypatch.setattr(extension, "encode_ending", lambda vae, frames: seen.append(frames))
    for fps in (8.0, 16.0, 4.0):
        extension.beginning_of(clip, extension.Extent(True, 1.0, 3, 0, fps))
    same, faster, slower = seen
    assert same.data_ptr() == clip.frames_FHWC.data_ptr() and len(same) == 8
    assert torch.equal(faster, clip.frames_FHWC[[0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5, 6]])
    assert torch.equal(slower, clip.frames_FHWC[[0, 2, 4, 6]])


@pytest.mark.parametrize("way", WAYS)
def test_a_checkpointed_run_is_the_plain_one_and_goes_on_where_it_was_killed(
    extend, settings, parts, way, tmp_path, monkeypatch
):
    """Killed in the second take: the first one is not made again."""
    monkeypatch.setattr(Journal, "keep", lambda self, key, state, last: self.save(key, state))
    left = [10**6]

    def hook(*_):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    given = {"video": noise(9), **settings, "direction": way, "seconds": 4.0, "seeds": "1 2"}
    handle = parts.transformer.register_forward_pre_hook(hook)
    try:
        with use_session(Session(output_directory=tmp_path)):
            plain = ExtendVideo.execute(**given).args
            calls = 10**6 - left[0]
            left[0] = calls - 3
            with pytest.raises(KeyboardInterrupt):
                ExtendVideo.execute(**{**given, "checkpoint": True})
            left[0] = 6  # what was done is found, or this is too few
            again = ExtendVideo.execute(**{**given, "checkpoint": True}).args
    finally:
        handle.remove()
    assert calls > 12
    for one, other in zip(plain[0], again[0], strict=True):
        assert torch.equal(one["samples"], other["samples"])
    assert plain[2:] == again[2:] and not list((tmp_path / ".patchdit").rglob("*.safetensors"))


@pytest.mark.parametrize("way", WAYS)
def test_the_result_can_be_trimmed_and_saved_as_it_comes(extend, way, tmp_path):
    _, result, shown, _, _ = extend(noise(9), direction=way)
    part = result.as_trimmed(0.5, 1.0)
    assert torch.equal(part.get_components().images, shown[4:12])
    largest = max(len(chunk) for chunk in result.chunks())
    assert largest <= 9  # the clip itself; what is made comes frame by frame
    result.save_to(str(tmp_path / "clip.mp4"))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 17
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_nothing_is_decoded_before_somebody_looks(settings, vae, monkeypatch):
    calls = []
    real = host.decode_frames
    monkeypatch.setattr(host, "decode_frames", lambda *a: calls.append(1) or real(*a))
    (result,) = ExtendVideo.execute(video=noise(9), **settings).args[1]
    assert result.get_frame_count() == 17 and result.get_duration() == 17 / 8 and not calls
    result.get_components()
    assert calls


def test_a_clip_grows_again_and_again(extend, vae):
    """Each time from the latents, which stay as they are."""
    latent = {"samples": encode_clip(vae, noise(9))}
    for _ in range(3):
        longer = extend(latent)[0]
        T = latent["samples"].shape[2]
        assert torch.equal(longer["samples"][:, :, :T], latent["samples"])
        assert longer["samples"].shape[2] == T + 2
        latent = longer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seconds": 0.0}, "Setting seconds is 0"),
        ({"seconds": -1.0}, "Setting seconds is -1"),
        ({"seconds": float("nan")}, "Setting seconds is nan"),
        ({"seconds": float("inf")}, "Setting seconds is inf"),
        ({"seconds": 1e9}, r"Setting seconds is 1e\+09; need .* at most 600"),
        ({"from_frame": 9}, "Setting from_frame is 9; the clip has frames 0 to 8"),
        ({"from_frame": 10**6}, "from_frame"),
        ({"window": 16}, "Setting window: .* got 16, nearest 13 or 17"),
        ({"window": -3}, "Setting window"),
        ({"window": 1}, "window is 1 frame"),
        ({"context": 6}, "Setting context: .* got 6, nearest 5 or 9"),
        ({"context": 17, "window": 17}, "context is 17 frames"),
        ({"context": 9, "window": 9}, "Setting context is 9 frames and the window 9|has 2"),
        ({"context": 13}, "context is 13 frames, 4 latents, and the clip has [23] latents"),
        ({"drift_limit": -0.5}, "Setting drift_limit is -0.5"),
        ({"drift_limit": float("nan")}, "Setting drift_limit is nan"),
        ({"seeds": "1, two"}, "whole numbers"),
    ],
)
def test_settings_that_cannot_be(extend, way, changes, says):
    with pytest.raises(ValueError, match=says) as caught:
        extend(noise(9), direction=way, **changes)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 220


def test_windows_that_would_go_backwards_for_ever(extend):
    with pytest.raises(ValueError, match="going backwards needs two"):
        extend(noise(20), direction="backwards", seconds=4.0, window=17, context=13)


@pytest.mark.parametrize("way", WAYS)
def test_the_shortest_extension_is_one_frame(extend, way):
    *_, shown, _, _ = extend(noise(5), direction=way, seconds=0.01)
    assert len(shown) == 6
