"""The records of all recordings, in Redis, and the one way their state changes.

Keys
    farm:recording:{id}           hash: one field per field of Recording, each value as JSON. `timeline` is
                                  its entries as JSON, joined by commas, so that a script can append without
                                  reading. `change` is the token of the last change of state.
    farm:active:{org}:{meeting}   sorted set: ids of the meeting's active recordings by time of invocation
    farm:unfinished               set: ids of all recordings that are not in a final state
Channel
    farm:recording:{id}           each change of state is announced here; the message is the new state

The client is the blocking one, because RQ's jobs are blocking programs; the API calls these methods in
threads.
Every write is one script, so no reader ever sees half a change.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast
from uuid import UUID, uuid4

import redis

from farm.errors import AlreadyRecording, NotFound, WrongState
from farm.recordings import ACTIVE, FINAL, Recording, Status, StatusChange, now, sources

_FIXED = frozenset({"id", "organization_id", "meeting_id", "invoked_time", "status", "timeline"})
"""Fields that nobody sets: the names of keys and the index are made of them, or a script keeps them."""

_UNFINISHED_KEY = "farm:unfinished"

# KEYS record, active, unfinished; ARGV id, order of invocation, whether several are allowed, field, value, …
# A client that lost the answer tries again: the record is there already, and that is no refusal.
_ADD = """
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
if ARGV[3] == '0' then
  local active = redis.call('ZREVRANGE', KEYS[2], 0, 0)
  if active[1] then return active[1] end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return false
"""

# KEYS record, active, unfinished; ARGV id, token, timeline entry, new state, allowed present states between
# commas, whether the new state is active, whether it is final, field, value, …
# Answers {1, record} or {0, present state}. The token makes a second try after a lost answer harmless.
_CHANGE = """
local present = redis.call('HGET', KEYS[1], 'status')
if not present then return {0, ''} end
present = cjson.decode(present)
if redis.call('HGET', KEYS[1], 'change') ~= ARGV[2] then
  if not string.find(ARGV[5], ',' .. present .. ',', 1, true) then return {0, present} end
  local timeline = redis.call('HGET', KEYS[1], 'timeline')
  timeline = (timeline and timeline ~= '') and (timeline .. ',' .. ARGV[3]) or ARGV[3]
  redis.call('HSET', KEYS[1], 'status', cjson.encode(ARGV[4]), 'timeline', timeline, 'change', ARGV[2],
             unpack(ARGV, 8))
  if ARGV[6] == '0' then redis.call('ZREM', KEYS[2], ARGV[1]) end
  if ARGV[7] == '1' then redis.call('SREM', KEYS[3], ARGV[1]) end
  redis.call('PUBLISH', KEYS[1], ARGV[4])
end
return {1, redis.call('HGETALL', KEYS[1])}
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
        encoded["timeline"] = encoded["timeline"][1:-1]
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

    def add(self, recording: Recording, *, allow_multiple: bool = False) -> Recording:
        """Keep a new recording; returns it with the first entry of its timeline.

        Raises AlreadyRecording when its meeting has an active recording and `allow_multiple` is false.
        """
        recording = recording.model_copy(
            update={"timeline": (StatusChange(status=recording.status, time=recording.invoked_time),)}
        )
        values = encode(recording, Recording.model_fields)
        blocking = self._add(
            keys=self._keys_of(recording),
            args=[
                str(recording.id),
                int(recording.invoked_time.timestamp() * 1e6),
                int(allow_multiple),
                *_flat(values),
            ],
        )
        if blocking is not None:
            raise AlreadyRecording(
                f"the meeting {recording.meeting_id} is already being recorded by {blocking.decode()}; "
                "stop that recording first, or ask with allow_multiple_recordings"
            )
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
                StatusChange(status=to, time=now()).model_dump_json(),
                to.value,
                f",{','.join(sorted(allowed))},",
                int(to in ACTIVE),
                int(to in FINAL),
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

    def _keys_of(self, recording: Recording) -> list[str]:
        return [
            record_key(recording.id),
            _active_key(recording.organization_id, recording.meeting_id),
            _UNFINISHED_KEY,
        ]


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
