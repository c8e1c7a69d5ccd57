"""VIDEO values: what is written is read back, lazily and in stretches."""

import json
import weakref
from fractions import Fraction
from io import BytesIO

import av
import pytest
import torch

from patchdit.standalone.api import InputImpl, Types
from patchdit.standalone.folders import new_file


def test_a_saved_video_comes_back(video, video_file):
    loaded = InputImpl.VideoFromFile(str(video_file))
    assert loaded.get_dimensions() == (48, 32)
    assert loaded.get_frame_count() == 9
    assert loaded.get_frame_rate() == 8
    assert loaded.get_duration() == pytest.approx(9 / 8, abs=0.05)
    got, want = loaded.get_components(), video.get_components()
    assert got.images.shape == want.images.shape
    assert (got.images - want.images).abs().mean() < 0.01
    assert got.audio["sample_rate"] == 16000
    assert got.audio["waveform"].shape[1] == 2
    assert got.audio["waveform"].shape[2] == pytest.approx(18000, abs=1100)
    assert got.audio["waveform"].square().mean().sqrt() == pytest.approx(0.35, abs=0.03)


def test_the_file_is_h264_yuv420p_and_carries_its_prompt(video_file):
    with av.open(str(video_file)) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert json.loads(container.metadata["prompt"]) == {"1": "é"}


def test_a_stretch_in_time(video, video_file):
    whole = video.get_components().images
    for source in (video, InputImpl.VideoFromFile(str(video_file))):
        part = source.as_trimmed(0.25, 0.5).get_components()
        assert (part.images - whole[2:6]).abs().mean() < 0.01
        assert part.audio["waveform"].shape[2] == 8000
        assert source.as_trimmed(0.5, 9.0) is None
        assert source.as_trimmed(0.5, 9.0, strict_duration=False).get_frame_count() == 5


def test_the_end_of_a_file(video, video_file):
    tail = InputImpl.VideoFromFile(str(video_file), start_time=-0.25).get_components().images
    assert (tail - video.get_components().images[-2:]).abs().mean() < 0.02


def test_a_trimmed_file_saves_its_stretch_with_sound(video_file):
    part = InputImpl.VideoFromFile(str(video_file), start_time=0.5)
    buffer = BytesIO()
    part.save_to(buffer)
    buffer.seek(0)
    saved = InputImpl.VideoFromFile(buffer)
    assert saved.get_frame_count() == 5
    assert saved.get_components().audio is not None


def test_a_whole_file_is_copied_packet_for_packet(video_file, tmp_path):
    copy = tmp_path / "copy.mp4"
    InputImpl.VideoFromFile(str(video_file)).save_to(str(copy), metadata={"workflow": {"a": 1}})

    def packets(path):
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(video=0)]

    assert packets(copy) == packets(video_file)
    with av.open(str(copy)) as container:
        assert set(container.metadata) >= {"prompt", "workflow"}


class LazyImages:
    """Frames that nobody keeps; counts how many are alive at once."""

    shape = (40, 16, 16, 3)

    def __init__(self):
        self.frames = weakref.WeakSet()
        self.most_alive = 0

    def __iter__(self):
        for _ in range(self.shape[0]):
            frame = torch.full(self.shape[1:], 0.5)
            self.frames.add(frame)
            self.most_alive = max(self.most_alive, len(self.frames))
            yield frame


def test_lazy_images_are_saved_frame_by_frame():
    buffer, images = BytesIO(), LazyImages()
    InputImpl.VideoFromComponents(Types.VideoComponents(images, Fraction(8))).save_to(buffer)
    buffer.seek(0)
    assert InputImpl.VideoFromFile(buffer).get_frame_count() == 40
    assert images.most_alive <= 2


@pytest.mark.parametrize("shape", [(2, 16, 15, 3), (2, 15, 16, 3), (0, 16, 16, 3)])
def test_sizes_that_h264_cannot_take(shape):
    video = InputImpl.VideoFromComponents(Types.VideoComponents(torch.zeros(shape), Fraction(8)))
    with pytest.raises(ValueError, match=f"{shape[0]} frames of {shape[2]}x{shape[1]}; .* even"):
        video.save_to(BytesIO())


@pytest.mark.parametrize(
    ("frames", "audio"),
    [
        (torch.zeros(2, 16, 16, 3), {"waveform": torch.zeros(1, 1, 7000), "sample_rate": 7000}),
        (torch.zeros(1, 2, 20000, 3), None),
    ],
)
def test_what_the_encoder_refuses_is_not_blamed_on_the_disk(frames, audio, tmp_path):
    components = Types.VideoComponents(frames, Fraction(8), audio)
    with (
        pytest.raises(ValueError, match=r"Cannot encode .*clip\.mp4 .*sample rate"),
        new_file(tmp_path / "clip.mp4") as path,
    ):
        InputImpl.VideoFromComponents(components).save_to(path)
    assert list(tmp_path.iterdir()) == []


def test_sound_without_a_sample_is_no_sound():
    sound = {"waveform": torch.zeros(1, 2, 0), "sample_rate": 44100}
    components = Types.VideoComponents(torch.zeros(2, 16, 16, 3), Fraction(8), sound)
    buffer = BytesIO()
    InputImpl.VideoFromComponents(components).save_to(buffer)
    buffer.seek(0)
    saved = InputImpl.VideoFromFile(buffer).get_components()
    assert len(saved.images) == 2 and saved.audio is None


def test_unreadable_files(tmp_path, video_file):
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video_file.read_bytes()[:300])
    for path in (text, cut, tmp_path / "missing.mp4"):
        with pytest.raises(ValueError, match=rf"Cannot read video .*{path.name}.*FFmpeg opens\.$"):
            InputImpl.VideoFromFile(str(path)).get_components()


def test_a_full_disk_leaves_no_file(video, tmp_path, full_disk):
    refused = pytest.raises(ValueError, match=r"Cannot write .*clip\.mp4 \(.*has room\.")
    with full_disk(), refused, new_file(tmp_path / "clip.mp4") as path:
        video.save_to(path)
    assert list(tmp_path.iterdir()) == []
