"""Recorded time of a recording, and the time it has left. Times are ns of CLOCK_MONOTONIC."""

import time
from typing import Final

from recording_farm.encoder.journal import Journal
from recording_farm.farm.recording.timeline import Elsewhere
from recording_farm.farm.spool.spool import Spool

_SECOND_NS: Final = 1_000_000_000

_MAX_NS: Final = 86_400 * _SECOND_NS
"""The longest recording, pauses included: a day."""


class RecordedTime:
    """Sums the recorded time of all takes, also of other recorders, without pauses."""

    def __init__(self, spool: Spool, elsewhere: Elsewhere, max_seconds: float | None) -> None:
        """Start with the takes in `spool` and those of other nodes; at most `max_seconds` are recorded."""
        self._began_ns, self._recorded_ns = _recorded_before(spool, elsewhere)
        self._max_ns = None if max_seconds is None else round(max_seconds * _SECOND_NS)
        self._take_began_ns: int | None = None
        self._stopped_ns: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there is a take, here or on another node."""
        return self._began_ns is not None

    @property
    def recorded_ns(self) -> int:
        """Recorded time so far."""
        running = 0 if self._take_began_ns is None else time.monotonic_ns() - self._take_began_ns
        return self._recorded_ns + running

    @property
    def seconds_left(self) -> float:
        """How long the recording may still run; a pause counts only towards the limit of a day."""
        now = time.monotonic_ns()
        left = _MAX_NS - (now - (self._began_ns or now))
        if self._max_ns is not None and self._take_began_ns is not None:
            left = min(left, self._max_ns - self.recorded_ns)
        return max(0, left) / _SECOND_NS

    def stop(self) -> None:
        """Stop now: nothing after this moment is in the recording."""
        self._stopped_ns = time.monotonic_ns()

    def begin_take(self, take: Journal) -> None:
        """A take has started."""
        self._take_began_ns = take.monotonic_us * 1000
        if self._began_ns is None:
            self._began_ns = self._take_began_ns

    def end_take(self) -> int:
        """End the running take and return its end: now, or earlier at the stop or the time limit."""
        assert self._take_began_ns is not None
        began_ns, self._take_began_ns = self._take_began_ns, None
        ends = [] if self._stopped_ns is None else [self._stopped_ns]
        if self._max_ns is not None:
            ends.append(began_ns + self._max_ns - self._recorded_ns)
        # A take that started after the stop still has its frames.
        over_ns = min([time.monotonic_ns(), *(end for end in ends if end > began_ns)])
        self._recorded_ns += over_ns - began_ns
        return over_ns


def _recorded_before(spool: Spool, elsewhere: Elsewhere) -> tuple[int | None, int]:
    """When the first take started, here or on another node, and the length of all; None without a take.

    By the wall clock: the machine may have been rebooted since.
    """
    journals = spool.journals()
    began_us = [journal.wall_us for journal in journals[:1]]
    if elsewhere.began is not None:
        began_us.append(round(elsewhere.began.timestamp() * 1e6))
    if not began_us:
        return None, 0
    ago = max(0, time.time_ns() - min(began_us) * 1000)
    recorded_us = sum(spool.recorded_us(journal) for journal in journals) + elsewhere.recorded_us
    return time.monotonic_ns() - ago, recorded_us * 1000
