"""A lazy VIDEO: frames are made when somebody looks at them or saves them, a few at a time.

F frames, H rows, W columns; frames_FHWC are RGB in 0..1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path

from torch import Tensor

from ..models.assembly import gathered, pad_to
from .api import Input, InputImpl, Types
from .host import progress

Frames = Callable[[], Iterator[Tensor]]


class LazyVideo(Input.Video):
    """Frames from a source that can be started again, with audio and a frame rate.

    `source()` yields chunks frames_FHWC of the whole clip; `frames` of them, from frame `first` on,
    are this video. Memory while saving holds one chunk, whatever the length.
    """

    def __init__(
        self,
        source: Frames,
        size: tuple[int, int],
        frames: int,
        fps: float | Fraction,
        audio: dict | None = None,
        first: int = 0,
    ):
        self._source = source
        self._size = size
        self._frames = frames
        self._fps = Fraction(fps).limit_denominator(1001)
        self._audio = audio
        self._first = first

    def chunks(self) -> Iterator[Tensor]:
        """This video's frames_FHWC in chunks, with progress; cancelling stops between two."""
        stop = self._first + self._frames
        report = progress(stop)
        at = 0
        for chunk_FHWC in self._source():
            here = chunk_FHWC[max(0, self._first - at) : stop - at]
            at += len(chunk_FHWC)
            report(min(at, stop))
            if len(here):
                yield here
            if at >= stop:
                return

    def get_components(self) -> Types.VideoComponents:
        return self._components(gathered(self.chunks(), self._frames))

    def save_to(
        self,
        path: str | BytesIO,
        format: Types.VideoContainer = Types.VideoContainer.AUTO,
        codec: Types.VideoCodec = Types.VideoCodec.AUTO,
        metadata: dict | None = None,
    ) -> None:
        """Let the host encode the frames as they come; a file appears whole or not at all."""
        video = InputImpl.VideoFromComponents(self._components(FrameByFrame(self)))
        if not isinstance(path, (str, os.PathLike)):
            return video.save_to(path, format=format, codec=codec, metadata=metadata)
        final = Path(path)
        partial = final.with_name(f".{final.stem}.partial{final.suffix}")
        try:
            video.save_to(str(partial), format=format, codec=codec, metadata=metadata)
            partial.replace(final)
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(
                f"Cannot write a video into {final.parent} ({reason}); need a folder that is"
                " writable and has room."
            ) from error
        finally:
            if os.path.exists(partial):
                partial.unlink()

    def as_trimmed(
        self,
        start_time: float | None = None,
        duration: float | None = None,
        strict_duration: bool = False,
    ) -> LazyVideo | None:
        """The part from `start_time` on, `duration` seconds of it; below 0 counts from the end.

        A duration of 0 is the rest. None if nothing is left, or less than `duration` although
        `strict_duration` asks for all of it.
        """
        start = round((start_time or 0) * self._fps)
        if start_time and start_time < 0:
            start = max(0, self._frames + min(start, -1))
        wanted = max(round(duration * self._fps), 1) if duration else self._frames - start
        frames = min(wanted, self._frames - start)
        if frames < 1 or (strict_duration and frames < wanted):
            return None
        audio = self._audio and _cut(self._audio, start / self._fps, frames / self._fps)
        return LazyVideo(self._source, self._size, frames, self._fps, audio, self._first + start)

    def get_stream_source(self) -> BytesIO:
        buffer = BytesIO()
        self.save_to(buffer)
        buffer.seek(0)
        return buffer

    def _components(self, images_FHWC) -> Types.VideoComponents:
        return Types.VideoComponents(images=images_FHWC, audio=self._audio, frame_rate=self._fps)

    def get_dimensions(self) -> tuple[int, int]:
        return self._size

    def get_frame_count(self) -> int:
        return self._frames

    def get_frame_rate(self) -> Fraction:
        return self._fps

    def get_duration(self) -> float:
        return float(self._frames / self._fps)

    def get_container_format(self) -> str:
        return "mp4"


class FrameByFrame:
    """The images of a LazyVideo, for an encoder: it asks their shape and walks through them.

    H.264 has even sides only: an odd one grows by a pixel, the outermost again.
    """

    def __init__(self, video: LazyVideo):
        width, height = video.get_dimensions()
        self.shape = (video.get_frame_count(), height + height % 2, width + width % 2, 3)
        self._video = video

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        for chunk_FHWC in self._video.chunks():
            yield from pad_to(chunk_FHWC, 2)


def _cut(audio: dict, start: Fraction | float, seconds: Fraction | float) -> dict:
    """`seconds` of AUDIO from `start` seconds on."""
    rate = audio["sample_rate"]
    first = round(start * rate)
    waveform = audio["waveform"][..., first : first + math.ceil(seconds * rate)]
    return {**audio, "waveform": waveform}
