"""Converts the record of an ended recording into the spans of a trace (`farm.telemetry.traces`)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final

from recording_farm.farm.recording.model import Recording, Status, TimelineEntry, is_cancelled, stop_reason_of

Attributes = Mapping[str, str | int | float | bool]

_PHASES: Final = {
    Status.INVOKED: "wait and join",
    Status.RECORDING: "record",
    Status.PAUSED: "pause",
    Status.UPLOADING: "cut and transfer",
}
"""Span name for each state of a recording."""


@dataclass(frozen=True)
class Span:
    """A phase of a recording."""

    name: str
    begin: datetime
    end: datetime
    attributes: Attributes = field(default_factory=dict)
    events: tuple[tuple[str, datetime, Attributes], ...] = ()
    failed: bool = False


def spans_of(recording: Recording) -> tuple[Span, list[Span]]:
    """The root span of an ended recording, and its child spans: one for each state and each take."""
    changes = [entry for entry in recording.timeline if entry.event == "state"]
    end = changes[-1].time
    whole = Span(
        "recording",
        changes[0].time,
        end,
        _attributes(recording),
        tuple(_events(recording)),
        failed=recording.status is Status.ERRORED and not is_cancelled(recording),
    )
    phases = [
        Span(_PHASES[change.status], change.time, following.time, {"farm.status": change.status.value})
        for change, following in pairwise(changes)
        if change.status in _PHASES
    ]
    return whole, [*phases, *_takes(recording.timeline, end)]


def _attributes(recording: Recording) -> Attributes:
    attributes: dict[str, str | int | float | bool] = {
        "farm.recording": str(recording.id),
        "farm.organization": recording.organization_id,
        "farm.meeting": recording.meeting_id,
        "farm.status": recording.status.value,
        "farm.codec": recording.codec.value,
    }
    reason = stop_reason_of(recording)
    optional = {
        "farm.node": recording.node,
        "farm.reason": reason.reason.value if reason else None,
        "farm.error": recording.error.code if recording.error else None,
        "farm.seconds": recording.recording_duration,
        "farm.bytes": recording.file_size,
    }
    return attributes | {name: value for name, value in optional.items() if value is not None}


def _events(recording: Recording) -> Iterator[tuple[str, datetime, Attributes]]:
    for entry in recording.timeline:
        if entry.fault is not None:
            yield "fault", entry.time, {"farm.fault": entry.fault}
        elif entry.finding is not None:
            yield entry.event, entry.time, {"farm.finding": entry.finding}
        elif entry.message is not None:
            yield entry.event, entry.time, {"farm.message": entry.message}
    for transfer in recording.transfers:
        if transfer.first_tried is not None:
            yield (
                "transfer",
                transfer.first_tried,
                {
                    "farm.target": transfer.target,
                    "farm.attempts": transfer.attempts,
                    "farm.state": transfer.state.value,
                },
            )


def _takes(timeline: tuple[TimelineEntry, ...], end: datetime) -> Iterator[Span]:
    ends = {entry.take: entry.time for entry in timeline if entry.event == "take_ended"}
    for entry in timeline:
        if entry.event == "take_began" and entry.take is not None:
            # A take whose recorder died has no end in the timeline.
            yield Span("take", entry.time, ends.get(entry.take, end), {"farm.take": entry.take})
