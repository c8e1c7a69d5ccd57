"""RemixVideo and PrepareRemix: closed forms of the edit, windows, kept pixels, resuming."""

from __future__ import annotations

import pytest
import torch

from patchdit.models import remix as maths
from patchdit.models.extend import context_of
from patchdit.models.flow import edit, finish, start
from patchdit.nodes import host, remixing
from patchdit.nodes.api import InputImpl, Types
from patchdit.nodes.finish import FinishVideo
from patchdit.nodes.remix import PrepareRemix, RemixVideo

SIGMAS = torch.tensor([0.8, 0.5, 0.2, 0.0])


def clip(frames=5, height=32, width=32):
    g = torch.Generator().manual_seed(3)
    return torch.rand(frames, height, width, 3, generator=g)


@pytest.fixture
def settings(model, vae, prompts):
    return {
        "vae": vae,
        "fps": 8.0,
        "model": model,
        "positive": prompts[0],
        "negative": prompts[1],
        "seed": 1,
        "steps": 2,
        "cfg": 2.0,
        "source": prompts[1],
        "method": "flow edit",
        "strength": 0.7,
        "source_cfg": 1.0,
        "window": 9,
        "context": 5,
        "checkpoint": False,
    }


def remix(video, settings, **changes):
    return RemixVideo.execute(video=video, **(settings | changes)).args


def frames_of(video):
    return video.get_components().images


def run_of(latent, mask=None):
    return maths.start_edit(start(latent, mask, SIGMAS, 7))


def test_an_edit_between_equal_denoisers_changes_nothing():
    """v_tar(x_tar) = v_src(x_src) when x_tar = x_src, whatever the network."""
    z = torch.randn(1, 16, 3, 4, 4)
    network = lambda x, sigma: torch.tanh(x) * 0.3  # noqa: E731
    state = run_of(z)
    while state.steps_left:
        state = maths.edit_step(state, z, network, network)
        torch.testing.assert_close(state.x, z)


def test_an_edit_between_two_points_ends_at_the_other_point():
    """Denoisers that know one clean clip each: dx/ds = (x - z + a - b)/s, x(0) = z + b - a."""
    z, a, b = torch.randn(3, 1, 16, 2, 4, 4)
    state = run_of(z)
    while state.steps_left:
        state = maths.edit_step(state, z, lambda x, s: a, lambda x, s: b)
    torch.testing.assert_close(finish(state), z + b - a)


def test_what_the_denoisers_are_shown_and_the_step_they_make():
    """x_src = (1 - s) z + s n for some noise n, x_tar = x + x_src - z, x moves by ds (v - v)."""
    z = torch.randn(1, 16, 2, 4, 4)
    state, seen = run_of(z), {}

    def network(name):
        def predict(x, sigma):
            seen[name] = x
            assert sigma.tolist() == pytest.approx([level])
            return x.sin() if name == "tar" else x.cos()

        return predict

    noises = []
    for level, following in zip(SIGMAS[:-1].tolist(), SIGMAS[1:].tolist(), strict=True):
        before = state.x
        state = maths.edit_step(state, z, network("src"), network("tar"))
        noise = (seen["src"] - (1 - level) * z) / level
        noises.append(noise)
        assert 0.8 < noise.std() < 1.2
        torch.testing.assert_close(seen["tar"], before + seen["src"] - z)
        v_tar = (seen["tar"] - seen["tar"].sin()) / level
        v_src = (seen["src"] - seen["src"].cos()) / level
        torch.testing.assert_close(state.x, before + (following - level) * (v_tar - v_src))
    assert not torch.allclose(noises[0], noises[1])
    with pytest.raises(ValueError, match="All 3 steps"):
        maths.edit_step(state, z, network("src"), network("tar"))


def test_held_cells_are_clean_and_each_side_sees_its_own():
    z, other = torch.randn(2, 1, 16, 3, 4, 4)
    mask = torch.ones(1, 1, 3, 4, 4)
    mask[:, :, 0] = 0
    latent = torch.where(mask == 0, other, z)
    seen = {}

    def network(name):
        def predict(x, sigma):
            seen[name] = x
            assert sigma.shape == (1, 3) and sigma[0, 0] == 0
            return torch.zeros_like(x)

        return predict

    state = maths.edit_step(run_of(latent, mask), z, network("src"), network("tar"))
    assert torch.equal(seen["src"][:, :, 0], z[:, :, 0])
    assert torch.equal(seen["tar"][:, :, 0], other[:, :, 0])
    assert torch.equal(state.x[:, :, 0], other[:, :, 0])


def test_steps_one_by_one_with_an_edit_of_nothing_between_are_the_same():
    z = torch.randn(1, 16, 2, 4, 4)
    one, other = (lambda x, s: x.sin()), (lambda x, s: x.cos())
    whole = cut = run_of(z)
    for _ in range(3):
        whole = maths.edit_step(whole, z, one, other)
        cut = edit(maths.edit_step(cut, z, one, other))
    assert torch.equal(whole.x, cut.x)


@pytest.mark.parametrize(
    ("latents", "window", "context"), [(1, 3, 1), (3, 3, 1), (8, 3, 1), (9, 4, 2)]
)
def test_windows_cover_every_latent_once_and_fit(latents, window, context):
    lengths = maths.remix_lengths(latents, window, context)
    assert sum(lengths) == latents and min(lengths) >= 1
    assert lengths[0] <= window and all(n + context <= window for n in lengths[1:])


def test_later_windows_know_the_remade_end_and_the_source_there():
    """An identity remake with +1 shows who saw what."""
    z = torch.arange(7.0).view(1, 1, 7, 1, 1).expand(1, 2, 7, 2, 2).contiguous()
    seen = []
    still = lambda latent: latent[:, :, -1:] + 0.5  # noqa: E731

    def remake(source, latent, mask):
        seen.append((source, latent, mask))
        return torch.where(mask == 0, latent, source + 10)

    mask = torch.ones(1, 1, 7, 2, 2)
    mask[..., 0, 0] = 0
    out = maths.remix_windows(z, mask, 4, 2, remake, still)
    assert torch.equal(out, torch.where(mask == 0, z, z + 10))
    assert len(seen) == 3
    at = 0
    for (source, latent, known), length in zip(seen, maths.remix_lengths(7, 4, 2), strict=True):
        if at:
            assert torch.equal(source[:, :, :2], context_of(z[:, :, :at], 2, still))
            assert torch.equal(latent[:, :, :2], context_of(out[:, :, :at], 2, still))
            assert (known[:, :, :2] == 0).all()
        assert torch.equal(source[:, :, -length:], z[:, :, at : at + length])
        assert torch.equal(known[:, :, -length:], mask[:, :, at : at + length])
        at += length


def all_of(latent):
    """A still that depends on all that it is made of."""
    return latent.mean(2, keepdim=True)


def test_a_remake_that_changes_nothing_knows_the_same_on_both_sides_and_gives_the_clip_back():
    z, mask = torch.randn(1, 2, 12, 2, 2), torch.ones(1, 1, 12, 2, 2)
    pairs = []
    same = lambda source, latent, mask: pairs.append((source, latent)) or source  # noqa: E731
    assert torch.equal(maths.remix_windows(z, mask, 4, 2, same, all_of), z)
    assert len(pairs) == 5 and all(torch.equal(source, latent) for source, latent in pairs)


@pytest.mark.parametrize(("latents", "window", "context"), [(5, 4, 2), (40, 4, 2), (31, 9, 8)])
def test_however_long_the_clip_no_more_than_a_window_is_decoded_at_once(latents, window, context):
    z, mask = torch.randn(1, 2, latents, 2, 2), torch.ones(1, 1, latents, 2, 2)
    decoded = []
    still = lambda latent: decoded.append(latent.shape[2]) or all_of(latent)  # noqa: E731
    maths.remix_windows(z, mask, window, context, lambda source, latent, mask: latent + 1, still)
    assert len(decoded) == 2 * (len(maths.remix_lengths(latents, window, context)) - 1)
    assert max(decoded) <= window


@pytest.mark.parametrize("method", ["flow edit", "noise"])
@pytest.mark.parametrize(
    ("frames", "size"), [(5, (32, 32)), (7, (40, 24)), (14, (32, 32)), (1, (16, 16))]
)
def test_length_size_sound_and_rate_stay(settings, method, frames, size):
    audio = {"waveform": torch.rand(1, 1, 800), "sample_rate": 800}
    parts = Types.VideoComponents(images=clip(frames, *size), audio=audio, frame_rate=24)
    video = InputImpl.VideoFromComponents(parts)
    latent, out, seams, report = remix(video, settings, method=method)
    assert frames_of(out).shape == (frames, *size, 3)
    assert not torch.allclose(frames_of(out), clip(frames, *size), atol=0.05)
    assert out.get_frame_rate() == 24 and out.get_components().audio is audio
    assert latent["samples"].shape[2] == 1 + -(-(frames - 1) // 4)
    assert latent["video_fps"] == 24 and latent.get("video_frames", frames) == frames
    assert seams == ("9, 13" if frames == 14 else "")
    assert "24 frames per second" in report


@pytest.mark.parametrize("method", ["flow edit", "noise"])
def test_pixels_outside_of_the_mask_are_the_very_ones(settings, method):
    frames, mask = clip(6, 40, 40), torch.zeros(1, 40, 40)
    mask[:, 3:29, 7:35] = 1
    _, video, *_ = remix(frames, settings, method=method, mask=mask)
    out, outside = frames_of(video), (mask[0] == 0)
    assert torch.equal(out[:, outside], frames[:, outside])
    middle = out[:, 10:20, 14:28]
    assert not torch.allclose(middle, frames[:, 10:20, 14:28], atol=0.05)


def test_a_latent_keeps_its_known_cells_bit_for_bit(settings):
    samples = torch.randn(1, 16, 3, 4, 4)
    mask = torch.zeros(9, 32, 32)
    mask[5:] = 1  # the last group of four frames
    given = {"samples": samples, "video_fps": 12.0}
    latent, video, *_ = remix(given, settings, mask=mask)
    assert torch.equal(latent["samples"][:, :, :2], samples[:, :, :2])
    assert not torch.allclose(latent["samples"][:, :, 2], samples[:, :, 2], atol=0.05)
    assert video.get_frame_rate() == 12 and "noise_mask" not in given


def test_the_kept_share_is_one_outside_and_falls_to_nothing_inside():
    mask = torch.zeros(1, 1, 32)
    mask[..., 16:] = 1
    share = remixing.kept_share(mask.expand(1, 32, 32))[0, 16]
    assert (share[:16] == 1).all() and (share[16 + remixing.EDGE :] == 0).all()
    assert (share.diff() <= 0).all() and 0 < share[17] < 1


def test_more_strength_changes_more(settings, model):
    samples = torch.randn(1, 16, 2, 4, 4)
    for method in ("flow edit", "noise"):
        moved = []
        for strength in (0.05, 0.9):
            latent, *_ = remix({"samples": samples}, settings, method=method, strength=strength)
            moved.append((latent["samples"] - samples).abs().mean())
        assert moved[0] < moved[1]


def test_flow_edit_with_the_same_prompt_and_guidance_gives_the_clip_back(settings, prompts):
    samples = torch.randn(1, 16, 2, 4, 4)
    same = {"source": prompts[0], "source_cfg": 0.0}
    latent, *_ = remix({"samples": samples}, settings, **same)
    torch.testing.assert_close(latent["samples"], samples, atol=1e-4, rtol=1e-4)


def test_prepare_and_finish_paste_what_is_kept(settings, vae, model):
    frames, mask = clip(5, 40, 24), torch.ones(40, 24)
    mask[:, :12] = 0
    options = {"vae": vae, "model": model, "fps": 8.0, "window": 0}
    latent, plan = PrepareRemix.execute(video=frames, mask=mask[None], **options).args
    assert latent["noise_mask"].shape == (1, 1, 2, 6, 4)
    assert (latent["noise_mask"][..., 0] == 0).all() and (latent["noise_mask"][..., 2] == 1).all()
    noise = {"samples": torch.randn_like(latent["samples"])}
    whole, video, seams, report = FinishVideo.execute(noise, plan).args
    assert torch.equal(frames_of(video)[:, :, :12], frames[:, :, :12])
    assert torch.equal(whole["samples"][..., 0], latent["samples"][..., 0])
    assert seams == "" and "sampler outside" in report
    with pytest.raises(ValueError, match="window"):
        PrepareRemix.execute(video=clip(9), **(options | {"window": 5}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": None}, "connect a prompt of what the clip shows"),
        ({"strength": 0.0}, "Setting strength is 0"),
        ({"strength": 1.5}, "Setting strength is 1.5"),
        ({"mask": torch.ones(1, 16, 32)}, "Setting mask has 1 frames of 32x16"),
        ({"mask": torch.ones(3, 32, 32)}, "Setting mask has 3 frames"),
        ({"mask": torch.zeros(1, 32, 32)}, "nothing to change"),
        ({"mask": torch.full((1, 32, 32), torch.nan)}, "not numbers"),
        ({"window": 8}, "Setting window"),
        ({"context": 9}, "Setting context"),
    ],
)
def test_bad_settings_are_named(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        remix(clip(13), settings, **changes)


def test_a_run_killed_at_a_step_goes_on_with_the_identical_result(
    settings, vae, tmp_path, monkeypatch
):
    monkeypatch.setattr(host, "journal_folder", lambda: tmp_path / "journal")
    settings = settings | {"checkpoint": True, "steps": 3}
    frames = clip(13)
    whole, *_ = remix(frames, settings, checkpoint=False)
    journal = remixing.Journal.__init__
    monkeypatch.setattr(remixing.Journal, "__init__", lambda self, f, s=0: journal(self, f, 0.0))
    step, calls = maths.edit_step, []

    def dies(state, *rest):
        calls.append(state.step)
        if len(calls) == 5:
            raise RuntimeError("killed")
        return step(state, *rest)

    monkeypatch.setattr(remixing, "edit_step", dies)
    with pytest.raises(RuntimeError, match="killed"):
        remix(frames, settings)
    assert list((tmp_path / "journal").iterdir())
    calls[:] = [None] * 10
    again, *_ = remix(frames, settings)
    assert torch.equal(again["samples"], whole["samples"])
    windows = len(remixing.remix_lengths(4, 3, 2))
    assert len(calls) - 10 == 3 * windows - 4  # the steps that were not yet done
    assert not list(tmp_path.glob("journal/*"))
