"""A recording's timeline as a drawing to scale: takes, the gaps between them, faults and findings.

Pure functions over the `timeline` that the API answers. Times are in seconds from the start of the first
take; `at` is the matching position in the finished file, which has no gaps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

from recording_farm.api.portal.recording_words import finding_in_words

_END_A_TAKE: Final = frozenset({"take_began", "take_ended", "fault"})
"""The events that end a running take, as in `farm.recording.timeline`."""

MIN_GAP: Final = 0.05
"""Seconds; a shorter gap is only the imprecision of the times."""

MIN_LOST_END: Final = 0.5
"""Seconds; how much shorter than its recorded length a last take must be for the rest to count as a gap."""

Entries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Span:
    """A part of the timeline with a length."""

    start: float
    end: float
    kind: Literal["take", "pause", "gap", "finding"]
    at: float
    """Its position in the finished file; of a gap, the position where the file continues."""
    label: str

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True)
class Mark:
    """An event at one moment."""

    time: float
    at: float
    label: str


@dataclass(frozen=True)
class Drawing:
    """A whole timeline: it covers `seconds`, `recorded` of them are in the file."""

    seconds: float
    recorded: float
    is_running: bool
    """Whether a take runs now, so that the recording gets longer."""
    is_growing: bool
    """Whether the timeline gets longer, by a take, a pause or a gap."""
    takes: tuple[Span, ...]
    gaps: tuple[Span, ...]
    findings: tuple[Span, ...]
    faults: tuple[Mark, ...]
    page: tuple[Mark, ...]
    """What the page did, as far as it explains the recording."""


class _Take(NamedTuple):
    """A take as its entries tell it; the end is only an estimate if no event tells it."""

    number: int
    start: float
    end: float
    is_end_known: bool


def drawing_of(
    entries: Entries,
    present: datetime,
    *,
    is_over: bool,
    in_file: Sequence[Mapping[str, Any]] = (),
    file_seconds: float | None = None,
) -> Drawing | None:
    """The drawing of a timeline at the time `present`; None before the first take.

    `in_file` says where each take is in the finished file, as the API's `takes` do. A recording of an older
    version has none of it; then `file_seconds`, the length of the file, scales the takes.
    """
    began = next((_time(entry) for entry in entries if entry["event"] == "take_began"), None)
    if began is None:
        return None
    elapsed = max(0.0, _seconds(began, present))
    takes = list(_takes(entries, began, elapsed, is_over=is_over))
    lengths = _lengths(takes, in_file, file_seconds)
    spans = list(_spans(takes, lengths))
    is_running = not is_over and _is_running(entries)
    gaps = [*_gaps(spans, entries, began)]
    if last := _last_gap(spans, takes, entries, None if is_over else elapsed):
        gaps.append(last)
    whole = max(0.001, *(span.end for span in (*spans, *gaps)))
    return Drawing(
        seconds=whole,
        recorded=sum(lengths.values()),
        is_running=is_running,
        is_growing=not is_over,
        takes=tuple(spans),
        gaps=tuple(gaps),
        findings=tuple(_findings(entries, began, whole, spans)),
        faults=tuple(_faults(entries, began, whole, spans)),
        page=tuple(_page(entries, began, whole, spans)),
    )


def _takes(entries: Entries, began: datetime, elapsed: float, *, is_over: bool) -> Iterator[_Take]:
    for index, entry in enumerate(entries):
        if entry["event"] != "take_began":
            continue
        start = _seconds(began, _time(entry))
        later = (_end(other, start, began) for other in entries[index + 1 :] if _ends_a_take(other))
        known = next(later, None)
        # No event may tell the end of a take; at the latest it ended with the recording.
        latest = _seconds(began, _time(entries[-1])) if is_over else elapsed
        end = max(start, latest if known is None else known)
        yield _Take(entry.get("take") or 0, start, end, known is not None)


def _lengths(
    takes: Sequence[_Take], in_file: Sequence[Mapping[str, Any]], file_seconds: float | None
) -> dict[int, float]:
    """The length of each take, by its number; a take that the file does not have is missing."""
    if in_file:
        return {take["take"]: take["duration_ns"] / 1e9 for take in in_file}
    lengths = {take.number: take.end - take.start for take in takes}
    total = sum(lengths.values())
    scale = 1.0 if file_seconds is None or not total else file_seconds / total
    return {number: seconds * scale for number, seconds in lengths.items()}


def _spans(takes: Sequence[_Take], lengths: Mapping[int, float]) -> Iterator[Span]:
    at = 0.0
    for number, (take, following) in enumerate(zip(takes, [*takes[1:], None], strict=True), start=1):
        if take.number not in lengths:
            continue
        end = take.start + lengths[take.number]
        if following is not None:
            end = min(end, max(take.start, following.start))
        yield Span(take.start, end, "take", at, f"Take {number}")
        at += lengths[take.number]


def _ends_a_take(entry: Mapping[str, Any]) -> bool:
    return entry["event"] in _END_A_TAKE


def _end(entry: Mapping[str, Any], start: float, began: datetime) -> float:
    """The end of the take that began at `start`, according to the entry that ends it."""
    # The length of a take is exact; an event is reported some time after it.
    seconds = entry.get("seconds") if entry["event"] == "take_ended" else None
    return _seconds(began, _time(entry)) if seconds is None else start + float(seconds)


def _is_running(entries: Entries) -> bool:
    events = [entry["event"] for entry in entries if _ends_a_take(entry)]
    return bool(events) and events[-1] == "take_began"


def _gaps(takes: Sequence[Span], entries: Entries, began: datetime) -> Iterator[Span]:
    for before, after in pairwise(takes):
        if after.start - before.end < MIN_GAP:
            continue
        states = {
            entry.get("status")
            for entry in entries
            if before.start < _seconds(began, _time(entry)) <= after.start
        }
        yield _gap(before.end, after.start, after.at, is_pause="PAUSED" in states)


def _last_gap(
    spans: Sequence[Span], takes: Sequence[_Take], entries: Entries, elapsed: float | None
) -> Span | None:
    """The gap behind the last take: `elapsed` is the present, None if the recording is over."""
    last = spans[-1] if spans else Span(0.0, 0.0, "take", 0.0, "")
    at = last.at + last.seconds
    if elapsed is not None:
        states = [entry["status"] for entry in entries if entry.get("status")]
        is_paused = bool(states) and states[-1] == "PAUSED"
        return _gap(last.end, elapsed, at, is_pause=is_paused) if elapsed - last.end >= MIN_GAP else None
    end = takes[-1].end
    is_lost = takes[-1].is_end_known and end - last.end >= MIN_LOST_END
    return _gap(last.end, end, at, is_pause=False) if is_lost else None


def _gap(start: float, end: float, at: float, *, is_pause: bool) -> Span:
    if is_pause:
        return Span(start, end, "pause", at, "Paused")
    return Span(start, end, "gap", at, "Not recorded")


def _findings(entries: Entries, began: datetime, whole: float, takes: Sequence[Span]) -> Iterator[Span]:
    for index, entry in enumerate(entries):
        if entry["event"] != "finding_began":
            continue
        ends = (
            _seconds(began, _time(other))
            for other in entries[index + 1 :]
            if other["event"] == "finding_ended" and other.get("finding") == entry.get("finding")
        )
        start = _within(_seconds(began, _time(entry)), whole)
        end = max(start, _within(next(ends, whole), whole))
        yield Span(start, end, "finding", _at(start, takes), finding_in_words(entry.get("finding")))


def _faults(entries: Entries, began: datetime, whole: float, takes: Sequence[Span]) -> Iterator[Mark]:
    for entry in entries:
        if entry["event"] == "fault":
            time = _within(_seconds(began, _time(entry)), whole)
            yield Mark(time, _at(time, takes), entry.get("fault") or "unknown fault")


def _page(entries: Entries, began: datetime, whole: float, takes: Sequence[Span]) -> Iterator[Mark]:
    for entry in entries:
        if entry.get("message"):
            time = _within(_seconds(began, _time(entry)), whole)
            yield Mark(time, _at(time, takes), str(entry["message"]))


def _at(time: float, takes: Sequence[Span]) -> float:
    """The position of a moment in the finished file; in a gap, the position where the file continues."""
    for take in takes:
        if time < take.end:
            return take.at + max(0.0, time - take.start)
    return takes[-1].at + takes[-1].seconds if takes else 0.0


def _within(seconds: float, whole: float) -> float:
    return min(max(seconds, 0.0), whole)


def _seconds(began: datetime, moment: datetime) -> float:
    return (moment - began).total_seconds()


def _time(entry: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["time"])
