"""The records of all recordings, in Redis, and the one way their state changes.

Keys
    farm:recording:{id}           hash: one field per field of Recording, each value as JSON. `timeline` is
                                  its entries as JSON, joined by commas, so that a script can append without
                                  reading. `change` is the token of the last change of state.
    farm:active:{org}:{meeting}   sorted set: ids of the meeting's active recordings by time of invocation
    farm:unfinished               set: ids of all recordings that are not in a final state
    farm:index:{org}:{status}     sorted set: `id meeting` of the organisation's recordings in a state, by
                                  microsecond of invocation; the states' indexes share no member
    farm:index:{org}:{status}:{meeting}   the same of one meeting
    farm:idempotency:{org}:{hash} id and request of the recording that a client's Idempotency-Key has started
    farm:changes                  stream: a copy of each recording that was added or changed its state, for
                                  the webhooks, which take them out (see `farm.changes`)
    farm:events:{org}             stream: the same for one organisation, the last ones only, for its readers
Channel
    farm:recording:{id}           each change of state is announced here; the message is the new state

The client is the blocking one, because RQ's jobs are blocking programs; the API calls these methods in
threads.
Every write is one script, so no reader ever sees half a change.
"""

import hashlib
import heapq
import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID, uuid4

import redis

from farm.changes import CHANGES_KEY, events_key
from farm.errors import AlreadyRecording, InvalidRequest, NotFound, WrongState
from farm.orders import orders_key
from farm.recordings import ACTIVE, FINAL, Recording, Status, TimelineEntry, now, sources

_FIXED = frozenset({"id", "organization_id", "meeting_id", "invoked_time", "status", "timeline"})
"""Fields that nobody sets: the names of keys and the index are made of them, or a script keeps them."""

_UNFINISHED_KEY = "farm:unfinished"

_IDEMPOTENCY_SECONDS: Final = 86_400
"""How long an Idempotency-Key is remembered."""

_PIECE: Final = 2000
"""How many members of an index are looked at in one go; Redis serves nobody else meanwhile."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# The record as one JSON object; `change` is ours, and the timeline's entries have no brackets around them.
_COPY = """
local function announce(record, changes, events)
  local flat = redis.call('HGETALL', record)
  local members = {}
  for i = 1, #flat, 2 do
    local value = flat[i + 1]
    if flat[i] == 'timeline' then value = '[' .. value .. ']' end
    if flat[i] ~= 'change' then table.insert(members, cjson.encode(flat[i]) .. ':' .. value) end
  end
  local copy = '{' .. table.concat(members, ',') .. '}'
  redis.call('XADD', changes, 'MAXLEN', '~', 1000000, '*', 'recording', copy)
  redis.call('XADD', events, 'MAXLEN', '~', 2000, '*', 'recording', copy)
  return flat
end
"""

# KEYS record, active, unfinished, changes, events, index, meeting's index, idempotency; ARGV id, order of
# invocation, whether several are allowed, member of the index, idempotency value or '', its seconds, field,
# value, …
# Answers {0} when it was added, {1, id} when that one blocks it, {2, value} when the idempotency key is used.
# A client that lost the answer tries again: the record is there already, and that is no refusal.
_ADD = (
    _COPY
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return {0} end
if ARGV[5] ~= '' then
  local taken = redis.call('GET', KEYS[8])
  if taken then return {2, taken} end
end
if ARGV[3] == '0' then
  local active = redis.call('ZREVRANGE', KEYS[2], 0, 0)
  if active[1] then return {1, active[1]} end
end
if ARGV[5] ~= '' then redis.call('SET', KEYS[8], ARGV[5], 'EX', ARGV[6]) end
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[6], ARGV[2], ARGV[4])
redis.call('ZADD', KEYS[7], ARGV[2], ARGV[4])
announce(KEYS[1], KEYS[4], KEYS[5])
return {0}
"""
)

# KEYS record, active, unfinished, changes, events; ARGV id, token, timeline entry, new state, allowed present
# states between commas, whether the new state is active, whether it is final, what the indexes' keys begin
# with, the meeting, member of the index, order of invocation, field, value, …
# Answers {1, record} or {0, present state}. The token makes a second try after a lost answer harmless.
_CHANGE = (
    _COPY
    + """
local present = redis.call('HGET', KEYS[1], 'status')
if not present then return {0, ''} end
present = cjson.decode(present)
if redis.call('HGET', KEYS[1], 'change') ~= ARGV[2] then
  if not string.find(ARGV[5], ',' .. present .. ',', 1, true) then return {0, present} end
  local timeline = redis.call('HGET', KEYS[1], 'timeline')
  timeline = (timeline and timeline ~= '') and (timeline .. ',' .. ARGV[3]) or ARGV[3]
  redis.call('HSET', KEYS[1], 'status', cjson.encode(ARGV[4]), 'timeline', timeline, 'change', ARGV[2],
             unpack(ARGV, 12))
  if ARGV[6] == '0' then redis.call('ZREM', KEYS[2], ARGV[1]) end
  if ARGV[7] == '1' then redis.call('SREM', KEYS[3], ARGV[1]) end
  for _, suffix in ipairs({'', ':' .. ARGV[9]}) do
    redis.call('ZREM', ARGV[8] .. present .. suffix, ARGV[10])
    redis.call('ZADD', ARGV[8] .. ARGV[4] .. suffix, ARGV[11], ARGV[10])
  end
  redis.call('PUBLISH', KEYS[1], ARGV[4])
  announce(KEYS[1], KEYS[4], KEYS[5])
end
return {1, redis.call('HGETALL', KEYS[1])}
"""
)

# KEYS record; ARGV entry
_NOTE = """
local timeline = redis.call('HGET', KEYS[1], 'timeline')
if not timeline then return 0 end
-- It is there already when a client tries again because it lost the answer.
if not string.find(timeline, ARGV[1], 1, true) then
  redis.call('HSET', KEYS[1], 'timeline', timeline .. ',' .. ARGV[1])
end
return 1
"""

# KEYS record, active, unfinished, orders; ARGV id, what the indexes' keys begin with, meeting, member of the
# index, final states between commas
# Answers the present state if it is not final, else nothing.
_DELETE = """
local present = redis.call('HGET', KEYS[1], 'status')
if not present then return false end
present = cjson.decode(present)
if not string.find(ARGV[5], ',' .. present .. ',', 1, true) then return present end
redis.call('ZREM', ARGV[2] .. present, ARGV[4])
redis.call('ZREM', ARGV[2] .. present .. ':' .. ARGV[3], ARGV[4])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[1], KEYS[4])
return false
"""

# KEYS record; ARGV field, value, …
_UPDATE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return redis.call('HGETALL', KEYS[1])
"""

# KEYS active; ARGV what the keys of records begin with
_ACTIVE = """
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0)
if not newest[1] then return {} end
return redis.call('HGETALL', ARGV[1] .. newest[1])
"""

_RECORD_PREFIX = "farm:recording:"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def record_key(recording_id: UUID | str) -> str:
    """The key of a recording's record, which is also the channel its changes are announced on."""
    return f"{_RECORD_PREFIX}{str(recording_id).lower()}"


def _active_key(organization_id: str, meeting_id: str) -> str:
    return f"farm:active:{organization_id}:{meeting_id}"


def encode(recording: Recording, names: Iterable[str]) -> dict[str, bytes]:
    """The named fields of a recording as they are kept in Redis."""
    values = recording.model_dump(mode="json", include=set(names))
    encoded = {name: json.dumps(value, ensure_ascii=False).encode() for name, value in values.items()}
    if "timeline" in encoded:
        entries = values["timeline"]
        encoded["timeline"] = ",".join(
            json.dumps({name: value for name, value in entry.items() if value is not None})
            for entry in entries
        ).encode()
    return encoded


def decode(record: Mapping[bytes, bytes]) -> Recording:
    """The Recording a hash in Redis stands for.

    Raises pydantic.ValidationError when the record was not written by this farm.
    """
    # The values are JSON already, so the whole is put together as text and read in one go.
    members = (
        b'"%s":%s' % (name, b"[%s]" % value if name == b"timeline" else value)
        for name, value in record.items()
        if name != b"change"
    )
    return Recording.model_validate_json(b"{%s}" % b",".join(members))


@dataclass(frozen=True)
class Idempotency:
    """A client's Idempotency-Key and a hash of the request that came with it."""

    key: str
    request_hash: str


@dataclass(frozen=True)
class Wanted:
    """Which recordings: in which states (none: any), of which meeting, invoked when (µs since 1970, both
    ends included; `-inf` and `+inf` are open), with which text in their meeting's id, and which page of them.
    """

    statuses: frozenset[Status] = frozenset()
    meeting_id: str | None = None
    earliest: int | str = "-inf"
    latest: int | str = "+inf"
    search: str = ""
    oldest_first: bool = False
    offset: int = 0
    count: int = 20


@dataclass(frozen=True)
class Found:
    """One page of recordings, and how many there are in all."""

    recordings: list[Recording]
    total: int


class Records:
    """The records of recordings. All methods may be called from several threads and processes at once.

    Every method raises redis.RedisError when Redis cannot be reached.
    """

    def __init__(self, client: redis.Redis) -> None:
        """`client` must return bytes (see `farm.redis_clients`)."""
        self._redis = client
        self._add = client.register_script(_ADD)
        self._change = client.register_script(_CHANGE)
        self._update = client.register_script(_UPDATE)
        self._active = client.register_script(_ACTIVE)
        self._note = client.register_script(_NOTE)
        self._delete = client.register_script(_DELETE)

    def add(
        self, recording: Recording, *, allow_multiple: bool = False, idempotency: Idempotency | None = None
    ) -> Recording:
        """Keep a new recording; returns it with the first entry of its timeline.

        If the same request has been made with the same idempotency key before, the recording that it started
        is returned instead. Raises AlreadyRecording when its meeting has an active recording and
        `allow_multiple` is false, InvalidRequest when the idempotency key was used for another request.
        """
        entry = TimelineEntry(event="state", status=recording.status, time=recording.invoked_time)
        recording = recording.model_copy(update={"timeline": (entry,)})
        values = encode(recording, Recording.model_fields)
        prefix = _index_prefix(recording.organization_id)
        index = f"{prefix}{recording.status}"
        claim = f"{recording.id} {idempotency.request_hash}" if idempotency else ""
        outcome, *answer = self._add(
            keys=[
                *self._keys_of(recording),
                index,
                f"{index}:{recording.meeting_id}",
                _idempotency_key(recording.organization_id, idempotency.key if idempotency else ""),
            ],
            args=[
                str(recording.id),
                _order(recording),
                int(allow_multiple),
                _member(recording),
                claim,
                _IDEMPOTENCY_SECONDS,
                *_flat(values),
            ],
        )
        if outcome == 1:
            raise AlreadyRecording(
                f"the meeting {recording.meeting_id} is already being recorded by {answer[0].decode()}; "
                "stop that recording first, or ask with allow_multiple_recordings"
            )
        if outcome == 2:
            assert idempotency is not None
            earlier, request_hash = answer[0].decode().split(" ")
            if request_hash != idempotency.request_hash:
                raise InvalidRequest(
                    "this Idempotency-Key was used for a different request; use a new key for each recording"
                )
            return self.get(recording.organization_id, earlier)
        return recording

    def get(self, organization_id: str | None, recording_id: UUID | str) -> Recording:
        """The recording of an organisation, or of any with None.

        Raises NotFound; an unknown recording and another organisation's look the same.
        """
        if not _UUID.fullmatch(str(recording_id)):
            raise _not_found(recording_id)
        record = cast("dict[bytes, bytes]", self._redis.hgetall(record_key(recording_id)))
        if not record:
            raise _not_found(recording_id)
        recording = decode(record)
        if organization_id is not None and recording.organization_id != organization_id:
            raise _not_found(recording_id)
        return recording

    def active(self, organization_id: str, meeting_id: str) -> Recording:
        """The newest recording of a meeting that waits, runs or is paused.

        Raises NotFound when there is none.
        """
        flat = self._active(keys=[_active_key(organization_id, meeting_id)], args=[_RECORD_PREFIX])
        if not flat:
            raise NotFound(f"no active recording found for meeting_id {meeting_id}")
        return decode(_pairs(flat))

    def unfinished(self) -> list[Recording]:
        """All recordings, of every organisation, that have not come to an end; in no order."""
        ids = [member.decode() for member in cast("set[bytes]", self._redis.smembers(_UNFINISHED_KEY))]
        with self._redis.pipeline(transaction=False) as pipeline:
            for recording_id in ids:
                pipeline.hgetall(record_key(recording_id))
            return [decode(record) for record in pipeline.execute() if record]

    def change_state(
        self,
        recording_id: UUID | str,
        to: Status,
        *,
        only_from: Collection[Status] | None = None,
        **fields: Any,
    ) -> Recording:
        """Move a recording to another state, set `fields` with it, and announce it; all or nothing.

        The move must be in `TRANSITIONS`; `only_from` narrows the states it may start from. Of several
        callers at once one wins, the others get WrongState. Returns the recording as it is then.

        Raises NotFound, WrongState, ValueError for a field that may not be set, pydantic.ValidationError for
        a value of the wrong type.
        """
        allowed = sources(to) if only_from is None else sources(to) & frozenset(only_from)
        recording = self.get(None, recording_id)
        succeeded, answer = self._change(
            keys=self._keys_of(recording),
            args=[
                str(recording.id),
                uuid4().hex,
                TimelineEntry(event="state", status=to, time=now()).model_dump_json(exclude_none=True),
                to.value,
                _between_commas(allowed),
                int(to in ACTIVE),
                int(to in FINAL),
                _index_prefix(recording.organization_id),
                recording.meeting_id,
                _member(recording),
                _order(recording),
                *_flat(_encode_changes(recording, fields)),
            ],
        )
        if succeeded:
            return decode(_pairs(answer))
        present = answer.decode()
        if not present:
            raise _not_found(recording_id)
        raise WrongState(f"recording {recording.id} is {present} and cannot become {to}")

    def update(self, recording_id: UUID | str, **fields: Any) -> Recording:
        """Set fields that do not change the state; returns the recording as it is then.

        Raises NotFound, ValueError for a field that may not be set, pydantic.ValidationError for a value of
        the wrong type.
        """
        recording = self.get(None, recording_id)
        if not fields:
            return recording
        flat = self._update(keys=[record_key(recording_id)], args=_flat(_encode_changes(recording, fields)))
        if not flat:
            raise _not_found(recording_id)
        return decode(_pairs(flat))

    def note(self, recording_id: UUID | str, entry: TimelineEntry) -> None:
        """Add an entry to the timeline of a recording; of one that is deleted meanwhile nothing is kept."""
        self._note(keys=[record_key(recording_id)], args=[entry.model_dump_json(exclude_none=True)])

    def delete(self, recording: Recording) -> None:
        """Forget a recording that has come to its end; harmless for one that is not there any more.

        Raises WrongState when it has not ended.
        """
        present = self._delete(
            keys=[*self._keys_of(recording)[:3], orders_key(recording.id)],
            args=[
                str(recording.id),
                _index_prefix(recording.organization_id),
                recording.meeting_id,
                _member(recording),
                _between_commas(FINAL),
            ],
        )
        if present:
            raise WrongState(f"recording {recording.id} is {present.decode()}; stop it before it is deleted")

    def find(self, organization_id: str, wanted: Wanted) -> Found:
        """A page of an organisation's recordings."""
        statuses = wanted.statuses or frozenset(Status)
        suffix = f":{wanted.meeting_id}" if wanted.meeting_id is not None else ""
        indexes = [f"{_index_prefix(organization_id)}{status}{suffix}" for status in sorted(statuses)]
        if wanted.search:
            members, total = self._search(indexes, wanted)
        else:
            members, total = self._page(indexes, wanted)
        ids = [member.split(b" ", 1)[0].decode() for member in members]
        with self._redis.pipeline(transaction=False) as pipeline:
            for recording_id in ids:
                pipeline.hgetall(record_key(recording_id))
            # One that was deleted since is left out.
            return Found([decode(record) for record in pipeline.execute() if record], total)

    def _page(self, indexes: list[str], wanted: Wanted) -> tuple[list[bytes], int]:
        """The members of a page: the states' indexes are merged only as far as the page needs."""
        end = wanted.offset + wanted.count
        with self._redis.pipeline(transaction=False) as pipeline:
            for index in indexes:
                pipeline.zcount(index, wanted.earliest, wanted.latest)
                _range(pipeline, index, wanted, 0, end)
            answers = pipeline.execute()
        total = sum(answers[::2])
        merged = _merge(answers[1::2], wanted)
        return [member for member, _ in merged[wanted.offset : end]], total

    def _search(self, indexes: list[str], wanted: Wanted) -> tuple[list[bytes], int]:
        """The same with a text to look for in the meetings' ids; looks at all of them, in pieces."""
        text = wanted.search.casefold()
        found: list[list[tuple[bytes, float]]] = []
        for index in indexes:
            matching: list[tuple[bytes, float]] = []
            for start in itertools.count(0, _PIECE):
                piece = cast(
                    "list[tuple[bytes, float]]", _range(self._redis, index, wanted, start, start + _PIECE)
                )
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

    def _keys_of(self, recording: Recording) -> list[str]:
        return [
            record_key(recording.id),
            _active_key(recording.organization_id, recording.meeting_id),
            _UNFINISHED_KEY,
            CHANGES_KEY,
            events_key(recording.organization_id),
        ]


def _range(client: redis.Redis, index: str, wanted: Wanted, start: int, end: int) -> Any:
    low, high = (wanted.earliest, wanted.latest) if wanted.oldest_first else (wanted.latest, wanted.earliest)
    return client.zrange(
        index,
        cast(int, low),
        cast(int, high),
        desc=not wanted.oldest_first,
        withscores=True,
        byscore=True,
        offset=start,
        num=end - start,
    )


def _merge(parts: Iterable[Iterable[tuple[bytes, float]]], wanted: Wanted) -> list[tuple[bytes, float]]:
    return list(heapq.merge(*parts, key=lambda entry: (entry[1], entry[0]), reverse=not wanted.oldest_first))


def _index_prefix(organization_id: str) -> str:
    return f"farm:index:{organization_id}:"


def _member(recording: Recording) -> str:
    return f"{recording.id} {recording.meeting_id}"


def _order(recording: Recording) -> int:
    return microseconds(recording.invoked_time)


def microseconds(moment: datetime) -> int:
    """A moment as the indexes order by it: whole microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _idempotency_key(organization_id: str, key: str) -> str:
    return f"farm:idempotency:{organization_id}:{hashlib.sha256(key.encode()).hexdigest()}"


def _between_commas(statuses: Iterable[Status]) -> str:
    return f",{','.join(sorted(statuses))},"


def _encode_changes(recording: Recording, fields: Mapping[str, Any]) -> dict[str, bytes]:
    """`fields` as they are kept in Redis, checked as part of the recording they are to change."""
    fixed = fields.keys() & _FIXED
    if fixed:
        raise ValueError(f"{', '.join(sorted(fixed))} cannot be set here; a state changes with change_state")
    unknown = fields.keys() - Recording.model_fields.keys()
    if unknown:
        raise ValueError(f"a recording has no field {', '.join(sorted(unknown))}")
    return encode(Recording.model_validate({**recording.model_dump(), **fields}), fields)


def _not_found(recording_id: UUID | str) -> NotFound:
    return NotFound(f"no recording has the id {recording_id}")


def _flat(values: Mapping[str, bytes]) -> list[str | bytes]:
    return [part for pair in values.items() for part in pair]


def _pairs(flat: Iterable[bytes]) -> dict[bytes, bytes]:
    parts = iter(flat)
    return dict(zip(parts, parts, strict=True))
