"""EncodeVideo, DecodeVideo and the lazy VIDEO between them."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from types import SimpleNamespace

import av
import pytest
import torch

from patchdit.nodes.api import InputImpl, Types
from patchdit.nodes.decode import DecodeVideo
from patchdit.nodes.encode import EncodeVideo
from patchdit.nodes.video import LazyVideo
from patchdit.standalone.core_nodes import VAEDecode


def clip(frames, height=32, width=48):
    generator = torch.Generator().manual_seed(frames)
    return torch.rand(frames, height, width, 3, generator=generator)


def sound(seconds, rate=8000):
    return {"waveform": torch.rand(1, 1, round(seconds * rate)) - 0.5, "sample_rate": rate}


def encode(video, vae, fit="pad", fps=8.0):
    return EncodeVideo.execute(video, vae, fit, fps).args


def decode(latent, vae, fps=0.0, audio=None):
    return DecodeVideo.execute(latent, vae, fps, audio).args[0]


@pytest.mark.parametrize(
    ("frames", "fit", "latents", "back"),
    [(9, "pad", 3, 9), (7, "pad", 3, 7), (2, "pad", 2, 2), (7, "trim", 2, 5), (3, "trim", 1, 1)],
)
def test_length_is_kept_or_trimmed(vae, frames, fit, latents, back):
    latent, audio, fps = encode(clip(frames), vae, fit, 12.0)
    assert latent["samples"].shape == (1, 16, latents, 4, 6)
    assert audio is None and fps == 12.0
    (video,) = decode(latent, vae)
    assert video.get_frame_count() == back
    assert video.get_frame_rate() == 12
    assert video.get_components().images.shape == (back, 32, 48, 3)


def test_padding_repeats_the_last_frame(vae):
    frames = clip(7)
    padded = torch.cat([frames, frames[-1:], frames[-1:]])
    assert torch.equal(encode(frames, vae)[0]["samples"], encode(padded, vae)[0]["samples"])


def test_encoding_in_a_stream_equals_encoding_at_once(vae):
    frames = clip(9)
    assert (encode(frames, vae)[0]["samples"] - vae.encode(frames)).abs().max() < 1e-5


def test_video_brings_its_own_rate_and_sound(vae):
    audio = sound(0.5)
    parts = Types.VideoComponents(images=clip(5), audio=audio, frame_rate=Fraction(10))
    latent, kept, fps = encode(InputImpl.VideoFromComponents(parts), vae)
    assert fps == latent["video_fps"] == 10 and kept is audio
    (video,) = decode(latent, vae, audio=kept)
    assert torch.equal(video.get_components().audio["waveform"], audio["waveform"])


def test_a_batch_of_latents_gives_a_video_each(vae):
    one, two = (encode(clip(frames), vae)[0]["samples"] for frames in (9, 9))
    videos = decode({"samples": torch.cat([one, two + 1])}, vae)
    images = [video.get_components().images for video in videos]
    assert len(images) == 2 and not torch.equal(*images)
    assert (images[0] - vae.decode(one)[0]).abs().max() < 1e-5


def test_saving_streams_and_embeds(vae, tmp_path):
    latent = encode(clip(9), vae)[0]
    (video,) = decode(latent, vae, fps=6.0, audio=sound(1.5))
    path = tmp_path / "clip.mp4"
    video.save_to(str(path), metadata={"prompt": {"1": "x"}})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (48, 32, 6)
        assert sum(1 for _ in container.decode(stream)) == 9
        assert container.metadata["prompt"] == '{"1": "x"}'
        assert len(container.streams.audio) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def lazy(frames, log=None, audio=None, fps=8):
    """A video whose frame i has the brightness i / 100; `log` notes each chunk as it is made."""

    def source():
        for first in range(0, frames, 4):
            count = min(4, frames - first)
            if log is not None:
                log.append(first)
            levels = torch.arange(first, first + count) / 100
            yield levels.view(-1, 1, 1, 1).expand(-1, 16, 16, 3)

    return LazyVideo(source, (16, 16), frames, fps, audio)


def brightness(video):
    return [round(level * 100) for level in video.get_components().images[:, 0, 0, 0].tolist()]


def test_frames_are_made_only_when_wanted():
    log = []
    video = lazy(100, log)
    assert video.get_duration() == 12.5 and video.get_dimensions() == (16, 16) and log == []
    trimmed = video.as_trimmed(1.0, 0.5)
    assert trimmed is not None and brightness(trimmed) == [8, 9, 10, 11]
    assert log == [0, 4, 8]


@pytest.mark.parametrize(
    ("start", "duration", "strict", "kept"),
    [
        (0, 0, True, range(16)),
        (1.5, 0, False, range(12, 16)),
        (-0.5, 0, False, range(12, 16)),
        (1.5, 9, False, range(12, 16)),
        (1.5, 9, True, None),
        (2.0, 0, False, None),
        (1.0, 0.05, True, range(8, 9)),
        (-0.05, 0, False, range(15, 16)),
    ],
)
def test_trimming(start, duration, strict, kept):
    trimmed = lazy(16).as_trimmed(start, duration, strict)
    assert trimmed is None if kept is None else brightness(trimmed) == list(kept)


def test_trimming_cuts_the_sound_along():
    audio = sound(2.0)
    trimmed = lazy(16, audio=audio).as_trimmed(0.5, 1.0)
    waveform = trimmed.get_components().audio["waveform"]
    assert torch.equal(waveform, audio["waveform"][..., 4000:12000])


def test_stream_source_is_an_mp4():
    with av.open(lazy(5).get_stream_source()) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_a_failing_source_leaves_no_file(tmp_path):
    def source():
        yield torch.zeros(4, 16, 16, 3)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        LazyVideo(source, (16, 16), 8, 8).save_to(str(tmp_path / "x.mp4"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_file(tmp_path, full_disk):
    refused = pytest.raises(ValueError, match=rf"Cannot write .*{tmp_path.name} \(.*has room\.")
    with full_disk(), refused:
        lazy(40).save_to(str(tmp_path / "x.mp4"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing/x.mp4", "x" * 300 + ".mp4"])
def test_a_place_that_cannot_be_written(tmp_path, name):
    with pytest.raises(ValueError, match=r"Cannot write .*need a folder that is writable"):
        lazy(4).save_to(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_other_formats_are_refused():
    with pytest.raises(ValueError, match=r"(?i)codec|vp9"):
        lazy(4).save_to(BytesIO(), codec="vp9")


@pytest.mark.parametrize(
    ("video", "fit", "said"),
    [
        (clip(7), "error", "got 7, nearest 5 or 9"),
        (clip(5, height=30), "pad", "height is 30 pixels; .* 8, nearest 24 or 32"),
        (clip(5, width=4), "pad", "width is 4 pixels; .* nearest 8"),
        (clip(1)[:0], "pad", "no frames"),
        (clip(1)[:0], "trim", "no frames"),
        (clip(2), "error", "got 2, nearest 1 or 5"),
    ],
)
def test_bad_clips_are_one_sentence(vae, video, fit, said):
    with pytest.raises(ValueError, match=said) as caught:
        encode(video, vae, fit)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\x00\x00\x00\x18ftypmp42" * 9])
def test_unreadable_video(vae, tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken.mp4"):
        encode(InputImpl.VideoFromFile(str(path)), vae)


def test_decode_blames_its_own_input(vae):
    with pytest.raises(ValueError, match=r"48 channels, .* has 16"):
        decode({"samples": torch.zeros(1, 48, 2, 4, 4)}, vae)
    broken = {"samples": torch.full((1, 16, 2, 4, 4), float("nan"))}
    for execute in (lambda: decode(broken, vae), lambda: VAEDecode.execute(broken, vae)):
        with pytest.raises(ValueError, match="not numbers"):
            execute()


def test_a_vae_for_images_is_refused():
    """Core's would decode the first latent frame only, and encode every frame by itself."""
    images = SimpleNamespace(latent_dim=2, latent_channels=16)
    with pytest.raises(ValueError, match="not for video"):
        decode({"samples": torch.zeros(1, 16, 2, 4, 4)}, images)
    with pytest.raises(ValueError, match="not for video"):
        encode(clip(5), images)


@pytest.mark.parametrize(("size", "shown"), [((30, 48), (30, 48)), ((17, 33), (17, 33))])
def test_padding_to_whole_patches_is_cut_off_again(vae, size, shown):
    latent = encode(clip(5), vae)[0] | {"video_size": size}
    (video,) = decode(latent, vae)
    frames = video.get_components().images
    assert video.get_dimensions() == shown[::-1] and frames.shape[1:3] == shown
    whole = decode(encode(clip(5), vae)[0], vae)[0].get_components().images
    assert torch.equal(frames, whole[:, : shown[0], : shown[1]])


@pytest.mark.parametrize("size", [(16, 48), (32, 49), (64, 96)])
def test_the_size_of_another_latent_means_nothing(vae, size):
    """As after a latent was scaled: core keeps what else a LATENT says."""
    latent = encode(clip(5), vae)[0] | {"video_size": size}
    assert decode(latent, vae)[0].get_dimensions() == (48, 32)
