"""Probes a finished file: its streams, duration and whether it plays."""

from dataclasses import dataclass
from pathlib import Path

import av
from av.audio import AudioStream
from av.video import VideoStream

from recording_farm.encoder.errors import CutError


@dataclass(frozen=True)
class StreamInfo:
    """One stream: `video` with its size and frames per second, or `audio` with its rate and channels."""

    type: str
    codec: str
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    sample_rate: int | None = None
    channels: int | None = None

    def in_words(self) -> str:
        """`video h264 1280x720 30 fps`, `audio aac 48000 Hz stereo`."""
        if self.type == "video":
            return f"video {self.codec} {self.width}x{self.height} {self.fps:g} fps"
        return f"audio {self.codec} {self.sample_rate} Hz {'stereo' if self.channels == 2 else 'mono'}"


@dataclass(frozen=True)
class Media:
    """A file that plays: how long it is, its streams, its size in bytes."""

    duration_us: int
    streams: tuple[StreamInfo, ...]
    bytes: int


def probe(file: Path) -> Media:
    """Read a file's streams and decode its first picture, or its first sound if it has no picture.

    Raises CutError when it does not play.
    """
    try:
        with av.open(str(file)) as source:
            streams = tuple(
                _describe(stream)
                for stream in source.streams
                if isinstance(stream, VideoStream | AudioStream)
            )
            if source.streams.video:
                next(source.decode(source.streams.video[0]))
            elif source.streams.audio:
                next(source.decode(source.streams.audio[0]))
            return Media(source.duration or 0, streams, file.stat().st_size)
    except (av.FFmpegError, OSError, StopIteration) as error:
        why = "it is empty" if isinstance(error, StopIteration) else error.strerror
        raise CutError(f"{file.name} does not play: {why}") from error


def _describe(stream: VideoStream | AudioStream) -> StreamInfo:
    name = stream.codec_context.codec.canonical_name
    if isinstance(stream, VideoStream):
        rate = stream.guessed_rate or stream.average_rate
        fps = round(float(rate), 2) if rate else None
        return StreamInfo("video", name, width=stream.width, height=stream.height, fps=fps)
    return StreamInfo("audio", name, sample_rate=stream.rate, channels=stream.channels)
