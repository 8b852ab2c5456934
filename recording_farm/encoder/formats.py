"""Sizes, rates and formats: H.264/AAC in MP4, VP8/Opus in WebM, and audio alone."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Literal

SAMPLE_RATE = 48_000
KEY_FRAME_SECONDS = 2
FRAME_TICKS = 1_000
"""A frame's length in the finished file's own unit of time, see `Format.timescale`."""
AAC_FRAME_SAMPLES = 1024


class Codec(StrEnum):
    """The video codec; it decides the container and the audio codec too."""

    H264 = "H264"
    VP8 = "VP8"

    @property
    def suffix(self) -> str:
        """The finished file's suffix, with its dot."""
        return ".mp4" if self is Codec.H264 else ".webm"

    @property
    def audio_frame_samples(self) -> int:
        """Samples in one audio packet: AAC's frame, Opus's 20 ms."""
        return AAC_FRAME_SAMPLES if self is Codec.H264 else 960


class AudioCodec(StrEnum):
    """The codec of a file with sound alone; it decides the container too."""

    AAC = "AAC"
    """AAC-LC in MP4."""
    MP3 = "MP3"

    @property
    def suffix(self) -> str:
        """The finished file's suffix, with its dot."""
        return ".m4a" if self is AudioCodec.AAC else ".mp3"


@dataclass(frozen=True)
class AudioExport:
    """The format of a file with audio alone; `channels` 1 is mono, 2 is stereo."""

    codec: AudioCodec = AudioCodec.AAC
    channels: Literal[1, 2] = 2


class Profile(StrEnum):
    """The usual content of the video, which decides where bits go."""

    TALK = "talk"
    """Faces: small files."""
    TEXT = "text"
    """Slides, documents, code: sharp edges; still parts cost little anyway."""
    MIXED = "mixed"
    MOTION = "motion"
    """Films and games: more bits for motion."""


_BITRATES = {
    Profile.TALK: 1_500_000,
    Profile.TEXT: 4_000_000,
    Profile.MIXED: 3_000_000,
    Profile.MOTION: 6_000_000,
}
"""Bits per second that 720p30 may take."""


@dataclass(frozen=True)
class Format:
    """The format of one recording: codec, size in pixels (even), frames per second, profile.

    With `audio_only` there is no picture: the recording becomes that file alone. Size and rate are then only
    those of the display that the page sees.
    """

    codec: Codec = Codec.H264
    width: int = 1280
    height: int = 720
    fps: int = 30
    audio_only: AudioExport | None = None
    profile: Profile = Profile.MIXED

    @property
    def take_suffix(self) -> str:
        """The suffix of a take's file, with its dot; a take without picture is AAC in MP4."""
        return self.codec.suffix if self.audio_only is None else AudioCodec.AAC.suffix

    @property
    def period_us(self) -> int:
        """Microseconds from one frame to the next.

        Chromium composes and x11grab grabs at whole microseconds, so 30 fps is really 1000000/33333.
        """
        return 1_000_000 // self.fps

    @property
    def rate(self) -> Fraction:
        """The exact frames per second that `period_us` gives."""
        return Fraction(1_000_000, self.period_us)

    @property
    def timescale(self) -> int:
        """Units of time in a second of the finished file; a frame lasts `FRAME_TICKS` of them."""
        return self.fps * FRAME_TICKS

    @property
    def stretch(self) -> Fraction:
        """Seconds of a take's time for one second of the clock.

        A frame that is grabbed each 33333 µs lasts 1/30 s in the file, as editors want it. Picture and sound
        are stretched alike (by 10 ppm at 30 fps, 64 at most), so they stay together.
        """
        return Fraction(1) if self.audio_only is not None else self.rate / self.fps

    @property
    def threads(self) -> int:
        """Threads of the video encoder: one keeps up with 720p30 and costs a sixth less than two."""
        return 1 if self.width * self.height * self.fps <= 1280 * 720 * 30 else 2

    @property
    def max_bitrate(self) -> int:
        """Bits per second that the video may take: its profile's at 720p30, by area and rate elsewhere."""
        most = _BITRATES[self.profile]
        return max(200_000, most * self.width * self.height * self.fps // (1280 * 720 * 30))
