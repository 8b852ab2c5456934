"""What is encoded: sizes, rates and the two formats, H.264/AAC in MP4 and VP8/Opus in WebM."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

SAMPLE_RATE = 48_000
KEY_FRAME_SECONDS = 2


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
        return 1024 if self is Codec.H264 else 960


@dataclass(frozen=True)
class Format:
    """What one recording is encoded to: codec, size in pixels (even), frames per second."""

    codec: Codec = Codec.H264
    width: int = 1280
    height: int = 720
    fps: int = 30

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
    def threads(self) -> int:
        """Threads of the video encoder: one keeps up with 720p30 and costs a sixth less than two."""
        return 1 if self.width * self.height * self.fps <= 1280 * 720 * 30 else 2

    @property
    def max_bitrate(self) -> int:
        """Bits per second that the video may take: 3 Mbit/s at 720p30, by area and rate elsewhere."""
        return max(200_000, 3_000_000 * self.width * self.height * self.fps // (1280 * 720 * 30))
