"""The journal of a take: facts besides its media, as JSON beside its file.

It is written while the take runs, so that a crash loses none of it.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from recording_farm.encoder.atomic_file import write_file


@dataclass(frozen=True)
class Lag:
    """From `from_us` on, in the take's time, frames were grabbed `us` later than the time they are for."""

    from_us: int
    us: int


@dataclass(frozen=True)
class Journal:
    """Of a take: its number, its epoch (unix s), its start, the phase of its grabs, its lags, and its end.

    Of the sound, so much was silence, in stretches of a second and more; at `speed` 1 the encoder kept up.
    `step` is how many steps cheaper than usual it was encoded, see `encoder.takes.command`.
    The start is its first grab, in µs of the wall clock and of CLOCK_MONOTONIC. Times in the file count in µs
    from the epoch, `stretch` (a ratio) of them for one of the clock's, see `Format.stretch`; the end is the
    first that does not belong to the take any more, None if that is not known.
    """

    number: int
    epoch: int
    wall_us: int
    monotonic_us: int
    phase_us: int
    lags: tuple[Lag, ...] = ()
    silent_us: int = 0
    speed: float = 0.0
    step: int = 0
    end_us: int | None = None
    # Takes of version 0.1 count as the clock does.
    stretch: tuple[int, int] = (1, 1)

    def time_of(self, monotonic_us: int) -> int:
        """A time of CLOCK_MONOTONIC as the take counts it; both in µs."""
        since_epoch = monotonic_us - self.monotonic_us + self.wall_us - self.epoch * 1_000_000
        return round(since_epoch * Fraction(*self.stretch))

    @property
    def length_us(self) -> int | None:
        """How long the take is by the clock, in µs; None if its end is not known."""
        if self.end_us is None:
            return None
        end = round(self.end_us / Fraction(*self.stretch))
        return max(0, end + self.epoch * 1_000_000 - self.wall_us)


def lag_at(lags: Sequence[Lag], time_us: int) -> int:
    """The lag of a frame grabbed at `time_us`; the first lag also applies to earlier frames."""
    if not lags:
        return 0
    return lags[max(0, bisect_right(lags, time_us, key=lambda lag: lag.from_us) - 1)].us


def write_journal(file: Path, journal: Journal) -> None:
    """Write it in place of the one before; a crash leaves the one or the other.

    It is written in the event loop while a take is recorded, which must not wait for the disk.
    """
    write_file(file, json.dumps(asdict(journal)), durable=False)


def read_journal(file: Path) -> Journal | None:
    """None if there is none, or none that can be understood."""
    try:
        fields = json.loads(file.read_text())
        lags = tuple(Lag(**lag) for lag in fields["lags"])
        numerator, denominator = fields.get("stretch", (1, 1))
        return Journal(**fields | {"lags": lags, "stretch": (int(numerator), int(denominator))})
    except (OSError, ValueError, TypeError, KeyError):
        return None
