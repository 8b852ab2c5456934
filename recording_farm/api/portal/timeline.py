"""A recording's timeline as a drawing to scale: takes, the gaps between them, faults and findings.

Pure functions over the `timeline` that the API answers. Times are in seconds from the beginning of the first
take; `at` is the time in the finished file, where there are no gaps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import inf
from typing import Any, Final, Literal

_END_A_TAKE: Final = frozenset({"take_began", "take_ended", "fault"})
"""The events at which a take that was begun has ended, as in `farm.recording.timeline`."""

MIN_GAP: Final = 0.05
"""Seconds; a shorter one is the time that the news of the take's end took."""

Entries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Span:
    """Something that lasts."""

    start: float
    end: float
    kind: Literal["take", "pause", "gap", "finding"]
    at: float
    """Where it is in the finished file; of a gap, where the file goes on."""
    label: str

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


@dataclass(frozen=True)
class Mark:
    """Something that happened at a moment."""

    time: float
    at: float
    label: str


@dataclass(frozen=True)
class Drawing:
    """All of a timeline; `seconds` is how long it is, `recorded` how much of that is in the file."""

    seconds: float
    recorded: float
    is_running: bool
    takes: tuple[Span, ...]
    gaps: tuple[Span, ...]
    findings: tuple[Span, ...]
    faults: tuple[Mark, ...]
    page: tuple[Mark, ...]
    """What the page did that explains what is seen."""


def drawing_of(
    entries: Entries, present: datetime, *, is_over: bool, in_file: float | None = None
) -> Drawing | None:
    """The drawing of a timeline at the time `present`; None before the first take.

    `in_file` is how long the finished file is, in seconds; it puts right that the end of a take is told a
    little after it.
    """
    takes = list(_takes(entries, present, is_over=is_over))
    if not takes:
        return None
    began = takes[0][0]
    told = [(_seconds(began, start), _seconds(began, end)) for start, end in takes]
    late = 0.0 if in_file is None else (sum(end - start for start, end in told) - in_file) / len(told)
    spans, at = [], 0.0
    for number, (start, end) in enumerate(told):
        following = told[number + 1][0] if number + 1 < len(told) else inf
        span = Span(start, min(max(start, end - late), following), "take", at, f"Take {number + 1}")
        spans.append(span)
        at += span.seconds
    whole = max(spans[-1].end, 0.001)
    return Drawing(
        seconds=whole,
        recorded=at,
        is_running=not is_over and _is_running(entries),
        takes=tuple(spans),
        gaps=tuple(_gaps(spans, entries, began)),
        findings=tuple(_findings(entries, began, whole, spans)),
        faults=tuple(_faults(entries, began, whole, spans)),
        page=tuple(_page(entries, began, whole, spans)),
    )


def _takes(entries: Entries, present: datetime, *, is_over: bool) -> Iterator[tuple[datetime, datetime]]:
    for place, entry in enumerate(entries):
        if entry["event"] != "take_began":
            continue
        began = _time(entry)
        later = (_time(other) for other in entries[place + 1 :] if other["event"] in _END_A_TAKE)
        # Of a take whose end nobody could tell, the recording's own is the last there is.
        last = max(began, _time(entries[-1])) if is_over else max(began, present)
        yield began, max(began, next(later, last))


def _is_running(entries: Entries) -> bool:
    told = [entry["event"] for entry in entries if entry["event"] in _END_A_TAKE]
    return bool(told) and told[-1] == "take_began"


def _gaps(takes: Sequence[Span], entries: Entries, began: datetime) -> Iterator[Span]:
    for before, after in pairwise(takes):
        if after.start - before.end < MIN_GAP:
            continue
        states = {
            entry.get("status")
            for entry in entries
            if before.start < _seconds(began, _time(entry)) <= after.start
        }
        is_pause = "PAUSED" in states
        yield Span(
            before.end,
            after.start,
            "pause" if is_pause else "gap",
            after.at,
            "Paused" if is_pause else "Nothing was recorded",
        )


def _findings(entries: Entries, began: datetime, whole: float, takes: Sequence[Span]) -> Iterator[Span]:
    for place, entry in enumerate(entries):
        if entry["event"] != "finding_began":
            continue
        ends = (
            _seconds(began, _time(other))
            for other in entries[place + 1 :]
            if other["event"] == "finding_ended" and other.get("finding") == entry.get("finding")
        )
        start = _within(_seconds(began, _time(entry)), whole)
        end = _within(next(ends, whole), whole)
        yield Span(start, max(start, end), "finding", _at(start, takes), _words(entry.get("finding")))


def _faults(entries: Entries, began: datetime, whole: float, takes: Sequence[Span]) -> Iterator[Mark]:
    for entry in entries:
        if entry["event"] == "fault":
            time = _within(_seconds(began, _time(entry)), whole)
            yield Mark(time, _at(time, takes), entry.get("fault") or "something broke")


def _page(entries: Entries, began: datetime, whole: float, takes: Sequence[Span]) -> Iterator[Mark]:
    for entry in entries:
        if entry.get("message"):
            time = _within(_seconds(began, _time(entry)), whole)
            yield Mark(time, _at(time, takes), str(entry["message"]))


def _at(time: float, takes: Sequence[Span]) -> float:
    """Where a moment is in the finished file; in a gap, where the file goes on."""
    for take in takes:
        if time < take.end:
            return take.at + max(0.0, time - take.start)
    return takes[-1].at + takes[-1].seconds


def _words(finding: object) -> str:
    return str(finding or "found").replace("_", " ").capitalize()


def _within(seconds: float, whole: float) -> float:
    return min(max(seconds, 0.0), whole)


def _seconds(began: datetime, moment: datetime) -> float:
    return (moment - began).total_seconds()


def _time(entry: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["time"])
