"""Lists of recordings: which are wanted, and how the indexes of `farm.recording.records` find them.

An organization has one index for each state and one for what has expired, and the same for each meeting; see
`farm.recording.records`.
"""

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import redis

from recording_farm.farm.recording.model import Recording, Status

_PIECE: Final = 2000
"""How many members of an index are looked at in one go; Redis serves nobody else meanwhile."""

EXPIRED: Final = "EXPIRED"
"""In the name of an index, in place of a state: UPLOADED, but the files are gone by their age."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Wanted:
    """Which recordings: in which states (none: any), of which meeting, invoked when (µs since 1970, both
    ends included; `-inf` and `+inf` are open), with which text in their meeting's id, whether their files are
    gone by their age (None: either), and which page of them.
    """

    statuses: frozenset[Status] = frozenset()
    meeting_id: str | None = None
    earliest: int | str = "-inf"
    latest: int | str = "+inf"
    search: str = ""
    expired: bool | None = None
    oldest_first: bool = False
    offset: int = 0
    count: int = 20


def find_ids(client: redis.Redis, organization_id: str, wanted: Wanted) -> tuple[list[str], int]:
    """The ids of a page of an organization's recordings, and how many there are in all."""
    suffix = f":{wanted.meeting_id}" if wanted.meeting_id is not None else ""
    indexes = [f"{index_prefix(organization_id)}{index}{suffix}" for index in _indexes(wanted)]
    find = _search if wanted.search else _page
    members, total = find(client, indexes, wanted)
    return [member.split(b" ", 1)[0].decode() for member in members], total


def _indexes(wanted: Wanted) -> list[str]:
    statuses = {status.value for status in wanted.statuses or Status}
    expired = {EXPIRED} if Status.UPLOADED in statuses and wanted.expired is not False else set()
    return sorted(expired if wanted.expired else statuses | expired)


def index_prefix(organization_id: str) -> str:
    """What the keys of an organization's indexes begin with; the state follows."""
    return f"farm:index:{organization_id}:"


def member_of(recording: Recording) -> str:
    """The recording in an index: its id and its meeting's."""
    return f"{recording.id} {recording.meeting_id}"


def order_of(recording: Recording) -> int:
    """Where the recording comes in an index."""
    return microseconds(recording.invoked_time)


def microseconds(moment: datetime) -> int:
    """A moment as the indexes order by it: whole microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _page(client: redis.Redis, indexes: list[str], wanted: Wanted) -> tuple[list[bytes], int]:
    """The members of a page: the states' indexes are merged only as far as the page needs."""
    end = wanted.offset + wanted.count
    with client.pipeline(transaction=False) as pipeline:
        for index in indexes:
            pipeline.zcount(index, wanted.earliest, wanted.latest)
            _range(pipeline, index, wanted, 0, end)
        answers = pipeline.execute()
    total = sum(answers[::2])
    merged = _merge(answers[1::2], wanted)
    return [member for member, _ in merged[wanted.offset : end]], total


def _search(client: redis.Redis, indexes: list[str], wanted: Wanted) -> tuple[list[bytes], int]:
    """The same with a text to look for in the meetings' ids; looks at all of them, in pieces."""
    text = wanted.search.casefold()
    found: list[list[tuple[bytes, float]]] = []
    for index in indexes:
        matching: list[tuple[bytes, float]] = []
        for start in itertools.count(0, _PIECE):
            piece = cast("list[tuple[bytes, float]]", _range(client, index, wanted, start, start + _PIECE))
            matching += [
                (member, order)
                for member, order in piece
                if text in member.split(b" ", 1)[1].decode().casefold()
            ]
            if len(piece) < _PIECE:
                break
        found.append(matching)
    merged = _merge(found, wanted)
    page = merged[wanted.offset : wanted.offset + wanted.count]
    return [member for member, _ in page], len(merged)


def _range(client: redis.Redis, index: str, wanted: Wanted, start: int, end: int) -> Any:
    low, high = (wanted.earliest, wanted.latest) if wanted.oldest_first else (wanted.latest, wanted.earliest)
    return client.zrange(
        index,
        cast("int", low),
        cast("int", high),
        desc=not wanted.oldest_first,
        withscores=True,
        byscore=True,
        offset=start,
        num=end - start,
    )


def _merge(parts: Iterable[Iterable[tuple[bytes, float]]], wanted: Wanted) -> list[tuple[bytes, float]]:
    return list(heapq.merge(*parts, key=lambda entry: (entry[1], entry[0]), reverse=not wanted.oldest_first))
