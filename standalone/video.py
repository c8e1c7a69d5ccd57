"""Stand-in for ComfyUI's VIDEO values: lazy until somebody asks for the frames.

Images are float RGB in 0..1, [F,H,W,3]; audio is {"waveform": [1,channels,samples], "sample_rate"}.
Times are seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from torch import Tensor

from .mp4 import (
    Target,
    VideoCodec,
    VideoContainer,
    check_format,
    copy_streams,
    write_mp4,
)


@dataclass
class VideoComponents:
    """A video taken apart. `images` may be any value with a shape that iterates over its frames."""

    images: Any
    frame_rate: Fraction
    audio: dict[str, Any] | None = None
    metadata: dict | None = None


class VideoInput(ABC):
    """A value on a VIDEO wire."""

    @abstractmethod
    def get_components(self) -> VideoComponents:
        """All frames, the sound and the frame rate, in memory."""

    @abstractmethod
    def save_to(
        self,
        path: Target,
        format: str = VideoContainer.AUTO,
        codec: str = VideoCodec.AUTO,
        metadata: dict | None = None,
    ) -> None:
        """Write a file; metadata values that are not text are written as JSON."""

    @abstractmethod
    def as_trimmed(
        self,
        start_time: float | None = None,
        duration: float | None = None,
        strict_duration: bool = False,
    ) -> VideoInput | None:
        """The part from `start_time` on; None where `strict_duration` and it would be shorter."""

    def get_stream_source(self) -> str | BytesIO:
        """A path or a buffer that PyAV opens."""
        buffer = BytesIO()
        self.save_to(buffer)
        buffer.seek(0)
        return buffer

    def get_dimensions(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.get_components().images.shape[1:3]
        return width, height

    def get_frame_count(self) -> int:
        return int(self.get_components().images.shape[0])

    def get_frame_rate(self) -> Fraction:
        return self.get_components().frame_rate

    def get_duration(self) -> float:
        return float(self.get_frame_count() / self.get_frame_rate())

    def get_container_format(self) -> str:
        with av.open(self.get_stream_source()) as container:
            return container.format.name


class VideoFromComponents(VideoInput):
    """A video whose frames are already here, or come one by one from a lazy `images`."""

    def __init__(self, components: VideoComponents):
        self._components = components

    def get_components(self) -> VideoComponents:
        c = self._components
        return VideoComponents(images=c.images, frame_rate=c.frame_rate, audio=c.audio)

    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None):
        check_format(format, codec)
        c = self._components
        write_mp4(path, c.images, c.images.shape, c.frame_rate, c.audio, metadata)

    def as_trimmed(self, start_time=None, duration=None, strict_duration=True):
        c, start = self._components, start_time or 0.0
        if strict_duration and self.get_duration() < start + (duration or 0.0):
            return None
        frames = _span(start, duration, c.frame_rate)
        audio = c.audio
        if audio is not None:
            samples = _span(start, duration, audio["sample_rate"])
            audio = {**audio, "waveform": audio["waveform"][..., samples]}
        return VideoFromComponents(VideoComponents(c.images[frames], c.frame_rate, audio))


class VideoFromFile(VideoInput):
    """A video file, or a stretch of one; nothing is read before somebody asks.

    A negative `start_time` counts from the end; a `duration` of 0 means up to the end.
    """

    def __init__(self, file: str | BytesIO, *, start_time: float = 0, duration: float = 0):
        self._file = file
        self._start = start_time
        self._duration = duration

    def get_stream_source(self):
        if isinstance(self._file, BytesIO):
            self._file.seek(0)
        return self._file

    def get_dimensions(self):
        with self._open() as container:
            stream = container.streams.video[0]
            return stream.width, stream.height

    def get_frame_rate(self):
        with self._open() as container:
            return Fraction(container.streams.video[0].average_rate or 1)

    def get_duration(self):
        with self._open() as container:
            whole = _duration(container)
        start = max(whole + self._start, 0.0) if self._start < 0 else self._start
        left = max(whole - start, 0.0)
        return min(self._duration, left) if self._duration else left

    def get_frame_count(self):
        with self._open() as container:
            counted = container.streams.video[0].frames
        if counted and not self._start and not self._duration:
            return counted
        return sum(1 for _ in self._frames())

    def get_container_format(self):
        with self._open() as container:
            return container.format.name

    def get_components(self):
        frames = list(self._frames())
        images = torch.stack(frames) if frames else torch.zeros(0, 0, 0, 3)
        with self._open() as container:
            metadata = dict(container.metadata)
        rate = self.get_frame_rate()
        return VideoComponents(images, rate, self._audio(), metadata)

    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None):
        """Copy the packets of a whole H.264 mp4 as they are; encode anything else anew."""
        check_format(format, codec)
        with self._open() as container:
            is_mp4 = "mp4" in container.format.name.split(",")
            is_h264 = container.streams.video[0].codec.name == "h264"
            if is_mp4 and is_h264 and not (self._start or self._duration):
                copy_streams(container, path, metadata)
                return
        frames = self._frames()
        first = next(frames, None)
        if first is None:
            raise ValueError(f"Video {self._name} has no frames from {self._start} s on.")
        shape = (self.get_frame_count(), *first.shape)
        write_mp4(
            path, _chain(first, frames), shape, self.get_frame_rate(), self._audio(), metadata
        )

    def as_trimmed(self, start_time=0, duration=0, strict_duration=True):
        start, length = start_time or 0, duration or 0
        trimmed = VideoFromFile(
            self.get_stream_source(), start_time=start + self._start, duration=length
        )
        return None if strict_duration and trimmed.get_duration() < length else trimmed

    @property
    def _name(self) -> str:
        return repr(self._file) if isinstance(self._file, str) else "in memory"

    def _open(self) -> InputContainer:
        try:
            container = av.open(self.get_stream_source(), mode="r")
        except (FFmpegError, OSError) as error:
            raise ValueError(
                f"Cannot read video {self._name} ({error.strerror}); need a file that FFmpeg opens."
            ) from error
        if not container.streams.video:
            container.close()
            raise ValueError(f"File {self._name} has no video stream; need a video.")
        return container

    def _from(self) -> float:
        if self._start >= 0:
            return float(self._start)
        with self._open() as container:
            return max(_duration(container) + self._start, 0.0)

    def _frames(self) -> Iterator[Tensor]:
        """Each frame as float [H,W,3], decoded one at a time."""
        start = self._from()
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            begin = int(start / stream.time_base)
            end = int((start + self._duration) / stream.time_base)
            if begin:
                container.seek(begin, stream=stream)
            for frame in _decoded(container, stream, self._name):
                if frame.pts is not None and frame.pts < begin:
                    continue
                if self._duration and frame.pts is not None and frame.pts >= end:
                    return
                yield _rgb(frame)

    def _audio(self) -> dict[str, Any] | None:
        """The last sound track within the stretch, or None."""
        start = self._from()
        with self._open() as container:
            if not container.streams.audio:
                return None
            stream = container.streams.audio[-1]
            resampler = av.AudioResampler(format="fltp")
            blocks = [
                block.to_ndarray()
                for frame in _decoded(container, stream, self._name)
                for block in resampler.resample(frame)
            ]
            rate = stream.sample_rate
        if not blocks:
            return None
        samples = np.concatenate(blocks, axis=1)[:, _span(start, self._duration or None, rate)]
        return {"waveform": torch.from_numpy(samples)[None], "sample_rate": rate}


def _span(start: float, duration: float | None, rate: float | Fraction) -> slice:
    """The items of a sequence at `rate` per second that fall into a stretch of time."""
    begin = round(start * rate)
    return slice(begin, begin + round(duration * rate) if duration else None)


def _duration(container: InputContainer) -> float:
    stream = container.streams.video[0]
    if container.duration is not None:
        return container.duration / av.time_base
    if stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    frames = sum(1 for _ in container.decode(stream))
    return float(frames / (stream.average_rate or 1))


def _decoded(container, stream, name: str) -> Iterator[Any]:
    try:
        yield from container.decode(stream)
    except FFmpegError as error:
        raise ValueError(
            f"Video {name} breaks off or is damaged ({error.strerror}); need a whole file."
        ) from error


def _rgb(frame: av.VideoFrame) -> Tensor:
    """Float RGB as core reads it: 8-bit RGB-like formats through bytes, YUV without rounding."""
    if frame.format.name in ("yuvj420p", "yuvj422p", "yuvj444p", "rgb24", "rgba", "pal8"):
        pixels = frame.to_ndarray(format="rgb24").astype(np.float32) / 255
    else:
        pixels = frame.to_ndarray(format="gbrpf32le")
    if frame.rotation:
        pixels = np.rot90(pixels, k=round(frame.rotation // 90), axes=(0, 1)).copy()
    return torch.from_numpy(pixels)


def _chain(first: Tensor, rest: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from rest
