"""Writing H.264 mp4 files, one frame at a time.

The caller chooses the path; `folders.new_file` is what keeps half-written files off the disk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from enum import Enum
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
from torch import Tensor

Target = str | BytesIO
KEEP_TAGS = {"movflags": "use_metadata_tags"}  # mp4 otherwise drops tags that it does not know


class VideoCodec(str, Enum):
    AUTO = "auto"
    H264 = "h264"

    @classmethod
    def as_input(cls) -> list[str]:
        return [member.value for member in cls]


class VideoContainer(str, Enum):
    AUTO = "auto"
    MP4 = "mp4"

    @classmethod
    def as_input(cls) -> list[str]:
        return [member.value for member in cls]

    @classmethod
    def get_extension(cls, value: str) -> str:
        cls(value)
        return "mp4"


def check_format(container: str, codec: str) -> None:
    """Refuse what we do not write."""
    if container not in VideoContainer.as_input() or codec not in VideoCodec.as_input():
        raise ValueError(f"Cannot write {codec} video into {container}; need h264 in mp4.")


def write_mp4(
    path: Target,
    frames: Iterable[Tensor],
    shape: Sequence[int],
    frame_rate: Fraction,
    audio: dict[str, Any] | None = None,
    metadata: dict | None = None,
) -> None:
    """Encode frames (float RGB [H,W,3], 0..1) as yuv420p H.264, with AAC sound where there is some.

    `shape` is (frames, height, width, ...). One frame is held at a time. Sound longer than the
    picture is cut. Metadata values that are not text are written as JSON.
    """
    count, height, width = shape[:3]
    if count < 1 or width % 2 or height % 2:
        raise ValueError(
            f"Video is {count} frames of {width}x{height}; H.264 needs frames, and even sides."
        )
    rate = Fraction(round(frame_rate * 1000), 1000)
    with av.open(path, "w", format="mp4", options=KEEP_TAGS) as output:
        _tag(output, metadata)
        picture: Any = output.add_stream("h264", rate=rate)
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        if audio and not audio["waveform"].numel():
            audio = None  # a stretch of time without a sample: AAC needs one
        sound = _sound_stream(output, audio) if audio else None
        for pixels in frames:
            rgb = (pixels[..., :3] * 255).round().clamp(0, 255).byte().cpu().numpy()
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            output.mux(picture.encode(frame))
        output.mux(picture.encode(None))
        if audio and sound is not None:
            _encode_sound(output, sound, audio, count / rate)


def copy_streams(source: Any, path: Target, metadata: dict | None) -> None:
    """Copy picture and sound packets of an open container as they are; new tags win over old."""
    options: dict[str, Any] = {"options": KEEP_TAGS}
    if isinstance(path, BytesIO):
        options["format"] = source.format.name.split(",")[0]
    with av.open(path, "w", **options) as output:
        _tag(output, {**source.metadata, **(metadata or {})})
        streams = {
            stream: output.add_stream_from_template(stream, opaque=True)
            for stream in (*source.streams.video, *source.streams.audio)
        }
        for packet in source.demux(*streams):
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                output.mux(packet)


def _tag(output: Any, metadata: dict | None) -> None:
    for key, value in (metadata or {}).items():
        output.metadata[key] = value if isinstance(value, str) else json.dumps(value)


def _sound_stream(output: Any, audio: dict[str, Any]) -> Any:
    channels = audio["waveform"].shape[1]
    layout = {1: "mono", 2: "stereo", 6: "5.1"}.get(channels)
    if layout is None:
        raise ValueError(f"Audio has {channels} channels; need 1, 2 or 6.")
    return output.add_stream("aac", rate=int(audio["sample_rate"]), layout=layout)


def _encode_sound(output: Any, stream: Any, audio: dict[str, Any], seconds: Fraction) -> None:
    rate = int(audio["sample_rate"])
    samples = audio["waveform"][0, :, : math.ceil(rate * seconds)]
    block = av.AudioFrame.from_ndarray(
        samples.float().cpu().contiguous().numpy(), format="fltp", layout=stream.layout.name
    )
    block.sample_rate, block.pts = rate, 0
    output.mux(stream.encode(block))
    output.mux(stream.encode(None))
