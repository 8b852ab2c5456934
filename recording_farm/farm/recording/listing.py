"""Lists of recordings: which are wanted, and how the indexes of `farm.recording.records` find them.

An organization has one index for each state and one for what has expired, and the same for each meeting; see
`farm.recording.records`.
"""

import heapq
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from urllib.parse import urlsplit

import redis

from recording_farm.farm.recording.model import Recording, Status

_PIECE: Final = 2000
"""How many members of an index are looked at in one go; Redis serves nobody else meanwhile."""

EXPIRED: Final = "EXPIRED"
"""In the name of an index, in place of a state: UPLOADED, but the files are gone by their age."""

_RECORDS: Final = 500
"""How many records are looked at in one go."""

_SEARCHED_FIELDS: Final = """
local record_prefix = ARGV[1]
local found = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  found[i - 1] = redis.call('HMGET', record_prefix .. id, 'output_file_name', 'url')
end
return found
"""

RECORD_PREFIX: Final = "farm:recording:"
"""The key of a record is this and the id of its recording."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Wanted:
    """Filters, order and page of a list.

    No `statuses` are all of them. `earliest` and `latest` are times of invocation, both included (µs since
    1970, or `-inf` and `+inf`). `search` is a text, see `_search`. `expired` is whether the files have
    expired, None for either.
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


def sort_score(recording: Recording) -> int:
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
    """The same with a text in the recording's id, its meeting's, its file's name or the host of its page.

    Looks at all members, in pieces; at the records only of those whose ids do not match.
    """
    text = wanted.search.casefold()
    found: list[list[tuple[bytes, float]]] = []
    for index in indexes:
        matching: list[tuple[bytes, float]] = []
        for start in itertools.count(0, _PIECE):
            piece = cast("list[tuple[bytes, float]]", _range(client, index, wanted, start, start + _PIECE))
            matching += _matching(client, piece, text)
            if len(piece) < _PIECE:
                break
        found.append(matching)
    merged = _merge(found, wanted)
    page = merged[wanted.offset : wanted.offset + wanted.count]
    return [member for member, _ in page], len(merged)


def _matching(client: redis.Redis, piece: list[tuple[bytes, float]], text: str) -> list[tuple[bytes, float]]:
    by_id = [text in member.decode().casefold() for member, _ in piece]
    others = [member for (member, _), matches in zip(piece, by_id, strict=True) if not matches]
    records = iter(_searched_fields(client, others))
    return [
        entry
        for entry, matches in zip(piece, by_id, strict=True)
        if matches or _is_in_record(text, *next(records))
    ]


def _searched_fields(client: redis.Redis, members: list[bytes]) -> list[list[bytes | None]]:
    """File name and URL in the records of members; in pieces, each of which blocks Redis for 1 ms."""
    ids = [member.split(b" ", 1)[0] for member in members]
    found: list[list[bytes | None]] = []
    for start in range(0, len(ids), _RECORDS):
        some = ids[start : start + _RECORDS]
        found += cast("list[list[bytes | None]]", client.eval(_SEARCHED_FIELDS, 0, RECORD_PREFIX, *some))
    return found


def _is_in_record(text: str, file_name: bytes | None, url: bytes | None) -> bool:
    """Whether a text is in a file's name or the host of a page, both as JSON; None of a deleted recording."""
    if file_name is None or url is None:
        return False
    return text in json.loads(file_name).casefold() or text in _host(json.loads(url))


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").casefold()
    except ValueError:
        return ""


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
