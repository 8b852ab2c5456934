"""What became of the recordings, how much of them is missing, and whether the timeline tells of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from chaos.client import Recording
from chaos.plan import PlannedRecording

MOST_LOST_SECONDS: Final = 6.0
"""What a node may take along of a recording with its disk."""

_TAKE_SECONDS: Final = 4.0
"""A new take after another fault, such as an encoder that was too slow, may cost so much."""


@dataclass(frozen=True)
class Struck:
    """What broke, so many seconds after the start, and the recordings that it hit.

    `lost` is the time if a node was lost with its disk.
    """

    at: float
    name: str
    recordings: frozenset[str]
    lost: datetime | None = None


@dataclass(frozen=True)
class Result:
    """What became of one recording: as the API showed it last, and how long its file is in seconds.

    None if it was never started, or has no file that plays. `hits` are the faults that hit it.
    """

    planned: PlannedRecording
    recording: Recording | None
    file_seconds: float | None
    hits: tuple[Struck, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether it is uploaded and plays, and no more was lost with a disk than may be."""
        return (
            self.recording is not None
            and self.recording["status"] == "UPLOADED"
            and self.file_seconds is not None
            and not self.problems
        )

    @property
    def problems(self) -> list[str]:
        """What is wrong with what was lost with a disk, in words."""
        losses = [hit.lost for hit in self.hits if hit.lost is not None]
        if self.recording is None or self.file_seconds is None:
            return []
        timeline = self.recording["timeline"]
        losses = [loss for loss in losses if _was_recorded(timeline, loss)]
        problems = [problem for loss in losses if (problem := _problem(timeline, loss)) is not None]
        lost = lost_seconds(self)
        told = sum(entry["seconds"] for entry in timeline if entry["event"] == "missing")
        breaks = sum(entry["event"] == "fault" for entry in timeline) - len(losses)
        most = told + 1 + max(0, breaks) * _TAKE_SECONDS
        # Other faults that were struck have their own gaps.
        if losses and len(self.hits) == len(losses) and lost is not None and lost > most:
            problems.append(f"{lost:.1f} s are not in the file, the timeline tells of {told:.1f} s")
        return problems


def _problem(timeline: Sequence[Recording], loss: datetime) -> str | None:
    """What is wrong with how the timeline tells of a node that was lost at this time; None if nothing."""
    told = [_time(entry) for entry in timeline if entry["event"] == "missing"]
    if any(abs((loss - until).total_seconds()) <= MOST_LOST_SECONDS for until in told):
        return None
    before = [(loss - until).total_seconds() for until in told if until < loss]
    if before:
        return f"{min(before):.1f} s before the loss of a disk are missing"
    return "the timeline does not tell what was lost with a disk"


def _was_recorded(timeline: Sequence[Recording], moment: datetime) -> bool:
    """Whether a take ran then that was so old that the store must have had something of it."""
    since = _recorded_since(timeline, moment)
    return since is not None and (moment - since).total_seconds() > MOST_LOST_SECONDS


def _recorded_since(timeline: Sequence[Recording], moment: datetime) -> datetime | None:
    """When the take began that was recorded at a moment; None if there was none."""
    takes = [entry for entry in timeline if entry["event"].startswith("take_") and _time(entry) <= moment]
    last = takes[-1] if takes else None
    return _time(last) if last is not None and last["event"] == "take_began" else None


def wanted_seconds(recording: Recording) -> float | None:
    """From the first take to the stop without pauses; None if it never began, or is not over."""
    timeline = recording["timeline"]
    began = next((_time(entry) for entry in timeline if entry["event"] == "take_began"), None)
    if began is None or recording["stopped_time"] is None:
        return None
    stopped = datetime.fromisoformat(recording["stopped_time"])
    return (stopped - began).total_seconds() - _paused_seconds(timeline, stopped)


def _paused_seconds(timeline: Sequence[Recording], stopped: datetime) -> float:
    """A pause is from the end of the take before PAUSED to the next take, or the stop.

    A take whose node was lost has no end, so the pause begins with PAUSED.
    """
    takes = [entry for entry in timeline if entry["event"].startswith("take_") or entry["status"] == "PAUSED"]
    paused, since = 0.0, None
    for before, entry in pairwise(takes):
        if entry["event"] == "state" and since is None:
            since = _time(before if before["event"] == "take_ended" else entry)
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


def table(
    results: Sequence[Result], struck: Sequence[Struck], unfinished: Sequence[str] = ()
) -> Iterator[str]:
    """A line for each recording, what is wrong with it, then the count, and what is left in the storages."""
    yield f"{'recording':<10} {'wanted':>7} {'file':>7} {'lost':>6} takes  what became of it"
    for result in results:
        yield _line(result)
        yield from (f"{'':<10} {problem}" for problem in result.problems)
    good = [result for result in results if result.is_good]
    lost = [seconds for result in good if (seconds := lost_seconds(result)) is not None]
    started = sum(result.recording is not None for result in results)
    yield (
        f"{started} started, {len(good)} uploaded, {len(struck)} faults; "
        f"{sum(lost):.1f} s lost, {max(lost, default=0):.1f} s at most in one"
    )
    yield "nothing unfinished is in the storages" if not unfinished else "unfinished, in the storages:"
    yield from (f"  {each}" for each in unfinished)


def _line(result: Result) -> str:
    if result.recording is None:
        return f"{result.planned.meeting:<10} {'':>30}  was never started"
    recording = result.recording
    hits = [f"{each.name} at {each.at:.0f}" for each in result.hits]
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
