"""What a recording's timeline tells of the nodes that have recorded it. Pure functions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from recording_farm.farm.recording.model import Recording, Status, TimelineEntry

_END_A_TAKE = frozenset({"take_began", "take_ended", "fault"})
"""The events at which a take that was begun has ended."""


@dataclass(frozen=True)
class Elsewhere:
    """What other nodes have recorded: how much (µs), when the recording began, and which number is free."""

    recorded_us: int = 0
    began: datetime | None = None
    next_take: int = 0


NOTHING = Elsewhere()


def recorded_elsewhere(timeline: Sequence[TimelineEntry], here: Collection[int]) -> Elsewhere:
    """What other nodes recorded, as far as they have told; the takes `here`, by number, are this one's."""
    began = [(place, entry) for place, entry in enumerate(timeline) if entry.event == "take_began"]
    others = [(place, entry) for place, entry in began if entry.take not in here]
    if not others:
        return NOTHING
    recorded = sum((_ended(timeline[place:]) - entry.time for place, entry in others), timedelta())
    return Elsewhere(
        recorded_us=max(0, recorded // timedelta(microseconds=1)),
        began=began[0][1].time,
        next_take=max(entry.take or 0 for _, entry in began) + 1,
    )


def _ended(timeline: Sequence[TimelineEntry]) -> datetime:
    """When the take ended that the first entry tells of; at once if nothing more is told."""
    began, *later = timeline
    return next((entry.time for entry in later if entry.event in _END_A_TAKE), began.time)


def node_with_takes(timeline: Sequence[TimelineEntry]) -> str | None:
    """The node that had recorded last when it was taken for gone; None if there is none."""
    node, recorded = None, False
    for entry in timeline:
        if entry.event == "take_began":
            recorded = True
        elif entry.node is not None and recorded:
            node, recorded = entry.node, False
    return node


def was_given_back(timeline: Sequence[TimelineEntry], node: str | None) -> bool:
    """Whether another node took a recording over from this one last, and began no take of its own."""
    entries = [entry for entry in timeline if entry.node is not None or entry.event == "take_began"]
    return bool(entries) and node is not None and entries[-1].node == node


def last_take_over(timeline: Sequence[TimelineEntry]) -> datetime | None:
    """Up to when the node is known to have lived from which the recording was taken over last."""
    return next((entry.time for entry in reversed(timeline) if entry.node is not None), None)


def missing_since_loss_of(timeline: Sequence[TimelineEntry], node: str) -> tuple[datetime, datetime] | None:
    """From when to when nothing is in the file since a node was lost; None if nothing is missing."""
    lost = max((place for place, entry in enumerate(timeline) if entry.node == node), default=None)
    if lost is None:
        return None
    entry = next((entry for entry in timeline[lost:] if entry.event == "missing"), None)
    if entry is None or entry.seconds is None:
        return None
    return entry.time, entry.time + timedelta(seconds=entry.seconds)


def last_loss(timeline: Sequence[TimelineEntry]) -> TimelineEntry | None:
    """The last fault that ended a take: the loss of a node, or the death of its recorder."""
    return next((entry for entry in reversed(timeline) if entry.event == "fault"), None)


def take_overs(timeline: Sequence[TimelineEntry], since: datetime | None = None) -> int:
    """How often the recording has been taken over from a node, at all or since then."""
    return sum(entry.node is not None and (since is None or entry.time >= since) for entry in timeline)


def other_keeper(recording: Recording, node: str) -> str | None:
    """The node that has the takes of a recording of which `node` has none; None if there are none.

    It was gone, but if it comes back in time there is a file after all.
    """
    keeper = None if recording.status is Status.INVOKED else node_with_takes(recording.timeline)
    return None if keeper == node else keeper
