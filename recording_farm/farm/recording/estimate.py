"""What a recording will cost, by what was measured: bytes an hour, and processors.

Measured at 1280x720, 30 fps, on pages of the kind that each profile is for (`python -m benchmarks profiles`;
benchmarks/README.md has the figures). A real page can differ by a factor of two: it is for planning, no more.
"""

from dataclasses import dataclass
from typing import Final

from recording_farm.encoder.formats import Codec, Format, Profile

_SOUND_BITS: Final = 128_000
_REFERENCE: Final = 1280 * 720 * 30
_IDLE_CORES: Final = 0.10
"""What does not depend on the picture: recorder, sound, the browser's own."""

_SOUND_CORES: Final = 0.28


@dataclass(frozen=True)
class _Measured:
    """Bits per second of the picture, and cores of all programs together."""

    bits: int
    cores: float


_MEASURED: Final = {
    (Codec.H264, Profile.TALK): _Measured(210_000, 0.77),
    (Codec.H264, Profile.TEXT): _Measured(410_000, 0.66),
    (Codec.H264, Profile.MIXED): _Measured(1_380_000, 0.83),
    (Codec.H264, Profile.MOTION): _Measured(3_560_000, 1.46),
    (Codec.VP8, Profile.TALK): _Measured(1_240_000, 0.66),
    (Codec.VP8, Profile.TEXT): _Measured(590_000, 0.63),
    (Codec.VP8, Profile.MIXED): _Measured(1_610_000, 0.66),
    (Codec.VP8, Profile.MOTION): _Measured(4_910_000, 1.06),
}


@dataclass(frozen=True)
class Estimate:
    """Bytes for each hour of the file, and how much of a core the recording takes."""

    bytes_per_hour: int
    cores: float


def estimate(fmt: Format) -> Estimate:
    """What a recording in this format will cost, roughly."""
    if fmt.audio_only is not None:
        return Estimate(_SOUND_BITS * 450, _SOUND_CORES)
    measured = _MEASURED[fmt.codec, fmt.profile]
    ratio = fmt.width * fmt.height * fmt.fps / _REFERENCE
    bits = min(measured.bits * ratio, fmt.max_bitrate)
    cores = _IDLE_CORES + (measured.cores - _IDLE_CORES) * ratio
    return Estimate(round(bits + _SOUND_BITS) * 450, round(cores, 2))
