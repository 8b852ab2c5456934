"""What came of the recordings, and how much of them is missing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from chaos.client import Recording
from chaos.plan import PlannedRecording


@dataclass(frozen=True)
class Struck:
    """What broke, so many seconds after the start, and the recordings that it hit."""

    at: float
    name: str
    recordings: frozenset[str]


@dataclass(frozen=True)
class Result:
    """What came of one recording: as the API showed it last, and how long its file is in seconds.

    None if it was never started, or has no file that plays.
    """

    planned: PlannedRecording
    recording: Recording | None
    file_seconds: float | None

    @property
    def is_good(self) -> bool:
        """Whether it is uploaded and plays."""
        return (
            self.recording is not None
            and self.recording["status"] == "UPLOADED"
            and self.file_seconds is not None
        )


def wanted_seconds(recording: Recording) -> float | None:
    """From the first take to the stop without pauses; None if it never began, or is not over."""
    timeline = recording["timeline"]
    began = next((_time(entry) for entry in timeline if entry["event"] == "take_began"), None)
    if began is None or recording["stopped_time"] is None:
        return None
    stopped = datetime.fromisoformat(recording["stopped_time"])
    return (stopped - began).total_seconds() - _paused_seconds(timeline, stopped)


def _paused_seconds(timeline: Sequence[Recording], stopped: datetime) -> float:
    """A pause is from the end of the take before PAUSED to the next take, or the stop."""
    takes = [entry for entry in timeline if entry["event"].startswith("take_") or entry["status"] == "PAUSED"]
    paused, since = 0.0, None
    for before, entry in pairwise(takes):
        if entry["event"] == "state" and since is None:
            since = _time(before)
        elif entry["event"] == "take_began" and since is not None:
            paused += (_time(entry) - since).total_seconds()
            since = None
    return paused + ((stopped - since).total_seconds() if since is not None else 0.0)


def _time(entry: Recording) -> datetime:
    return datetime.fromisoformat(entry["time"])


def lost_seconds(result: Result) -> float | None:
    """How much of what was wanted is not in the file; None if there is nothing to compare."""
    wanted = wanted_seconds(result.recording) if result.recording is not None else None
    return None if wanted is None or result.file_seconds is None else wanted - result.file_seconds


def table(results: Sequence[Result], struck: Sequence[Struck]) -> Iterator[str]:
    """A line for each recording, then the count."""
    yield f"{'recording':<10} {'wanted':>7} {'file':>7} {'lost':>6} takes  what became of it"
    for result in results:
        yield _line(result, struck)
    good = [result for result in results if result.is_good]
    lost = [seconds for result in good if (seconds := lost_seconds(result)) is not None]
    started = sum(result.recording is not None for result in results)
    yield (
        f"{started} started, {len(good)} uploaded, {len(struck)} faults; "
        f"{sum(lost):.1f} s lost, {max(lost, default=0):.1f} s at most in one"
    )


def _line(result: Result, struck: Sequence[Struck]) -> str:
    if result.recording is None:
        return f"{result.planned.meeting:<10} {'':>30}  was never started"
    recording = result.recording
    hits = [f"{each.name} at {each.at:.0f}" for each in struck if recording["id"] in each.recordings]
    takes = (recording["quality"] or {}).get("takes", "")
    return (
        f"{result.planned.meeting:<10} {_seconds(wanted_seconds(recording)):>7} "
        f"{_seconds(result.file_seconds):>7} {_seconds(lost_seconds(result)):>6} "
        f"{takes:>5}  {_end(recording)}; {', '.join(hits) or 'no fault'}"
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _end(recording: Recording) -> str:
    reason = recording.get("stop_reason", {}).get("reason", "")
    error = (recording["error"] or {}).get("code", "")
    return " ".join(filter(None, (recording["status"], reason, error)))
