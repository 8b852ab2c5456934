"""The records of all recordings, in Redis, and the one way their state changes.

Keys
    farm:recording:{id}           hash: one field per field of Recording, each value as JSON. `timeline` is
                                  its entries as JSON, joined by commas, so that a script can append without
                                  reading. `change` is the token of the last change of state.
    farm:active:{org}:{meeting}   sorted set: ids of the meeting's active recordings by time of invocation
    farm:unfinished               set: ids of all recordings that are not in a final state
    farm:index:{org}:{status}     sorted set: `id meeting` of the organization's recordings in a state, by
                                  microsecond of invocation; the states' indexes share no member
    farm:index:{org}:{status}:{meeting}   the same of one meeting; both also with EXPIRED in place of a
                                  state, for UPLOADED ones whose files are gone by their age
    farm:watermark:{id}           the picture drawn over the recording's, a PNG
    farm:targets:{id}             hash: the customer's storage with its keys, sealed
                                  (`farm.credentials.sealing`), by the name of the transfer
    farm:slot:{node}:{number}     id of the recording that was last in a slot of a node
    farm:left:{node}              set: ids of the recordings that other nodes have taken over from a node
    farm:deleted                  sorted set: ids of the recordings deleted last, by the Unix time since when,
                                  for nodes that have something of them
    farm:kept                     sorted set: ids of all recordings whose files are kept, by the Unix time
                                  since when
    farm:idempotency:{org}:{hash} id and request of the recording that a client's Idempotency-Key has started
    farm:changes                  stream: a copy of each recording that was added or changed its state, or
                                  whose transfer has an event, for the webhooks, which take them out (see
                                  `farm.recording.changes`)
    farm:events:{org}             stream: the same for one organization, the last ones only, for its readers
Channel
    farm:recording:{id}           each change of state is announced here; the message is the new state

The client is the blocking one, because RQ's jobs are blocking programs; the API calls these methods in
threads.
Every write is one script, so no reader ever sees half a change.
"""

import hashlib
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, cast
from uuid import UUID, uuid4

import redis
import redis.asyncio
from pydantic import ValidationError

from recording_farm.farm.clock import now
from recording_farm.farm.db.clients import in_time
from recording_farm.farm.errors import (
    AlreadyRecordingError,
    InvalidRequestError,
    NotFoundError,
    QuotaExceededError,
    RecordUnreadableError,
    TakenOverError,
    WrongStateError,
)
from recording_farm.farm.nodes.registry import GONE_KEY
from recording_farm.farm.notice import NOTICE
from recording_farm.farm.recording import lua
from recording_farm.farm.recording.change_log import line_about
from recording_farm.farm.recording.changes import CHANGES_KEY, events_key
from recording_farm.farm.recording.commands import commands_key
from recording_farm.farm.recording.listing import (
    EXPIRED,
    RECORD_PREFIX,
    Wanted,
    find_ids,
    index_prefix,
    member_of,
    sort_score,
)
from recording_farm.farm.recording.model import ACTIVE, FINAL, Recording, Status, TimelineEntry, sources
from recording_farm.farm.recording.outputs import MAX_OUTPUTS, Output
from recording_farm.farm.recording.outputs import OVER as OUTPUTS_OVER
from recording_farm.farm.recording.transfers import Transfer, TransferState

logger = logging.getLogger(__name__)

_FIXED = frozenset(
    {"id", "organization_id", "meeting_id", "invoked_time", "status", "timeline", "transfers"}
    | {"outputs", "expired_time", "slot"}
)
"""Fields that nobody sets: the names of keys and the index are made of them, or a script keeps them."""

_UNFINISHED_KEY = "farm:unfinished"
_KEPT_KEY = "farm:kept"
_DELETED_KEY = "farm:deleted"
_WATERMARK_SECONDS = 3 * 86_400
"""A day in the queue and a day of recording at most, and one more."""

_IDEMPOTENCY_SECONDS: Final = 86_400
"""How long an Idempotency-Key is remembered."""

_DELETED_SECONDS: Final = 30 * 86_400
"""How long nodes are told that a recording was deleted; what they have of it goes by its age besides."""

_LEFT_SECONDS: Final = 90 * 86_400
"""How long a node that was gone is told what was taken over from it, after the last time, and how long it is
known what was in a slot: longer than any recording is active."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def record_key(recording_id: UUID | str) -> str:
    """The key of a recording's record, which is also the channel its changes are announced on."""
    return f"{RECORD_PREFIX}{str(recording_id).lower()}"


def _watermark_key(recording_id: UUID | str) -> str:
    return f"farm:watermark:{str(recording_id).lower()}"


def _targets_key(recording_id: UUID | str) -> str:
    return f"farm:targets:{str(recording_id).lower()}"


def _left_key(node: str | None) -> str:
    return f"farm:left:{node or ''}"


def _slot_key(node: str, slot: int | None) -> str:
    return f"farm:slot:{node}:{slot or ''}"


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
    """The Recording a hash in Redis stands for. Raises RecordUnreadableError."""
    # The values are JSON already, so the whole is put together as text and read in one go.
    members = (
        b'"%s":%s' % (name, b"[%s]" % value if name == b"timeline" else value)
        for name, value in record.items()
        if name != b"change"
    )
    try:
        return Recording.model_validate_json(b"{%s}" % b",".join(members))
    except ValidationError as error:
        recording_id = record.get(b"id", b"?").decode(errors="replace").strip('"')
        wrong = sorted({".".join(map(str, fault["loc"])) or fault["msg"] for fault in error.errors()})
        raise RecordUnreadableError(
            f"the record of recording {recording_id} cannot be read ({', '.join(wrong)}); "
            "was it written by another version of the farm?"
        ) from None  # pydantic's error has the values in it, such as a page's address with its key


def _readable(found: Iterable[Mapping[bytes, bytes]]) -> Iterator[Recording]:
    """Those that are there and can be read: one that cannot must keep nobody from all the others."""
    for record in found:
        if not record:
            continue  # deleted since its id was read
        try:
            yield decode(record)
        except RecordUnreadableError as error:
            logger.error("%s", error.message)


@dataclass(frozen=True)
class Idempotency:
    """A client's Idempotency-Key and a hash of the request that came with it."""

    key: str
    request_hash: str


class SealedTarget(NamedTuple):
    """A customer's storage with its keys, sealed, and the name of the transfer that goes there."""

    name: str
    sealed: str


@dataclass(frozen=True)
class Found:
    """One page of recordings, and how many there are in all."""

    recordings: list[Recording]
    total: int


class Records:
    """The records of recordings. All methods may be called from several threads and processes at once.

    Every method raises redis.RedisError when Redis cannot be reached, and RecordUnreadableError when the one
    recording that it is about cannot be read.
    """

    def __init__(self, client: redis.Redis) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._redis = client
        self._add = client.register_script(lua.ADD)
        self._change = client.register_script(lua.CHANGE)
        self._claim = client.register_script(lua.CLAIM)
        self._restore = client.register_script(lua.RESTORE)
        self._update = client.register_script(lua.UPDATE)
        self._active = client.register_script(lua.ACTIVE)
        self._note = client.register_script(lua.NOTE)
        self._transfer = client.register_script(lua.TRANSFER)
        self._output = client.register_script(lua.OUTPUT)
        self._expire = client.register_script(lua.EXPIRE)
        self._delete = client.register_script(lua.DELETE)

    def add(
        self,
        recording: Recording,
        *,
        allow_multiple: bool = False,
        idempotency: Idempotency | None = None,
        target: SealedTarget | None = None,
        most_queued: int = 0,
    ) -> Recording:
        """Keep a new recording, and its customer's storage; returns it with the first entry of its timeline.

        If the same request has been made with the same idempotency key before, the recording that it started
        is returned instead. Raises AlreadyRecordingError when its meeting has an active recording and
        `allow_multiple` is false, InvalidRequestError when the idempotency key was used for another request,
        or its recording is deleted, QuotaExceededError when `most_queued` recordings of the organization wait
        for their start already; 0 allows any number.
        """
        entry = TimelineEntry(event="state", status=recording.status, time=recording.invoked_time)
        recording = recording.model_copy(update={"timeline": (entry,)})
        values = encode(recording, Recording.model_fields)
        prefix = index_prefix(recording.organization_id)
        index = f"{prefix}{recording.status}"
        claim = f"{recording.id} {idempotency.request_hash}" if idempotency else ""
        outcome, *answer = self._add(
            keys=[
                *self._keys_of(recording),
                index,
                f"{index}:{recording.meeting_id}",
                _idempotency_key(recording.organization_id, idempotency.key if idempotency else ""),
                _targets_key(recording.id),
            ],
            args=[
                str(recording.id),
                sort_score(recording),
                int(allow_multiple),
                member_of(recording),
                claim,
                _IDEMPOTENCY_SECONDS,
                *(target or ("", "")),
                most_queued,
                *_flat(values),
            ],
        )
        if outcome == 3:
            raise QuotaExceededError(
                f"at most {most_queued} recordings of your organization may wait for their start; "
                f"try again in {QuotaExceededError.retry_after} s, or stop some of them"
            )
        if outcome == 1:
            raise _already_recording(recording.meeting_id, answer[0].decode())
        if outcome == 2:
            assert idempotency is not None
            return self._started_by(recording.organization_id, idempotency, answer[0])
        return recording

    def started_before(
        self, organization_id: str, meeting_id: str, *, allow_multiple: bool, idempotency: Idempotency | None
    ) -> Recording | None:
        """What `add` would return of an earlier request, or refuse, as it is now; None if it would add.

        For who has much to do before it adds.
        """
        if idempotency is not None:
            key = _idempotency_key(organization_id, idempotency.key)
            claim = cast("bytes | None", self._redis.get(key))
            if claim is not None:
                return self._started_by(organization_id, idempotency, claim)
        if not allow_multiple:
            with suppress(NotFoundError):
                raise _already_recording(meeting_id, str(self.active(organization_id, meeting_id).id))
        return None

    def _started_by(self, organization_id: str, idempotency: Idempotency, claim: bytes) -> Recording:
        """The recording that an idempotency key has started, by what is kept under it."""
        earlier, request_hash = claim.decode().split(" ")
        if request_hash != idempotency.request_hash:
            raise InvalidRequestError(
                "this Idempotency-Key belongs to a different request; use a new key for each recording"
            )
        try:
            return self.get(organization_id, earlier)
        except NotFoundError:
            raise InvalidRequestError(
                f"recording {earlier} of this Idempotency-Key was deleted; use a new key for each recording"
            ) from None

    def get(self, organization_id: str | None, recording_id: UUID | str) -> Recording:
        """The recording of an organization, or of any with None.

        Raises NotFoundError; an unknown recording and another organization's look the same.
        """
        record = cast("dict[bytes, bytes]", self._redis.hgetall(_checked_key(recording_id)))
        return _found(record, organization_id, recording_id)

    def node_of(self, recording_id: UUID | str) -> str | None:
        """The node that a recording is on; None before one has claimed it. Raises NotFoundError."""
        content = cast("bytes | None", self._redis.hget(record_key(recording_id), "node"))
        if content is None:
            raise _not_found(recording_id)
        return cast("str | None", json.loads(content))

    def active(self, organization_id: str, meeting_id: str) -> Recording:
        """The newest recording of a meeting that waits, runs or is paused.

        Raises NotFoundError when there is none.
        """
        flat = self._active(keys=[_active_key(organization_id, meeting_id)], args=[RECORD_PREFIX])
        if not flat:
            raise NotFoundError(f"meeting {meeting_id} has no active recording")
        return decode(_pairs(flat))

    def unfinished(self) -> list[Recording]:
        """All recordings, of every organization, that have not come to an end; in no order.

        One that cannot be read is left out, and told of in the log.
        """
        ids = [member.decode() for member in cast("set[bytes]", self._redis.smembers(_UNFINISHED_KEY))]
        with self._redis.pipeline(transaction=False) as pipeline:
            for recording_id in ids:
                pipeline.hgetall(record_key(recording_id))
            return list(_readable(pipeline.execute()))

    def change_state(
        self,
        recording_id: UUID | str,
        to: Status,
        *,
        only_from: Collection[Status] | None = None,
        by: str | None = None,
        **fields: Any,
    ) -> Recording:
        """Move a recording to another state, set `fields` with it, and announce it; all or nothing.

        The move must be in `TRANSITIONS`; `only_from` narrows the states it may start from. Of several
        callers at once one wins, the others get WrongStateError. Returns the recording as it is then.

        Raises NotFoundError, WrongStateError, TakenOverError when `by` is given and not its node, ValueError
        for a field that may not be set, pydantic.ValidationError for a value of the wrong type.
        """
        allowed = sources(to) if only_from is None else sources(to) & frozenset(only_from)
        recording = self.get(None, recording_id)
        outcome, *answer = self._change(
            keys=[
                *self._keys_of(recording),
                _KEPT_KEY,
                _targets_key(recording.id),
                _watermark_key(recording.id),
            ],
            args=[
                str(recording.id),
                uuid4().hex,
                TimelineEntry(event="state", status=to, time=now()).model_dump_json(exclude_none=True),
                to.value,
                _between_commas(allowed),
                int(to in ACTIVE),
                int(to in FINAL),
                index_prefix(recording.organization_id),
                recording.meeting_id,
                member_of(recording),
                sort_score(recording),
                f"{now().timestamp():.3f}" if to is Status.UPLOADED else "",
                "" if by is None else json.dumps(by),
                *_flat(_encode_changes(recording, fields)),
            ],
        )
        if outcome == 1:
            changed = decode(_pairs(answer[0]))
            if line := line_about(changed):
                logger.log(NOTICE, "%s", line)
            return changed
        if outcome == 2:
            raise _taken_over(recording_id)
        present = answer[0].decode()
        if not present:
            raise _not_found(recording_id)
        raise WrongStateError(f"recording {recording.id} is {present} and cannot become {to}")

    def claim(
        self,
        recording: Recording,
        node: str,
        entry: TimelineEntry | None = None,
        *,
        slot: int | None = None,
        states: Collection[Status] = ACTIVE,
    ) -> Recording:
        """Make a recording one of `node`, if it is in one of `states` and nobody else was faster.

        It is in `slot` from then on, and what was said to be in there before is not any more. From another
        node it is taken only while that one is gone (`farm.nodes.registry`); `entry` then goes into
        its timeline.
        Returns the recording as it is then. Raises NotFoundError, WrongStateError when it is in another
        state, TakenOverError when it is another node's.
        """
        outcome, *answer = self._claim(
            keys=[
                *(record_key(recording.id), GONE_KEY, _left_key(recording.node), _left_key(node)),
                *(events_key(recording.organization_id), _slot_key(node, slot)),
            ],
            args=[
                str(recording.id),
                json.dumps(recording.node),
                json.dumps(node),
                recording.node or "",
                entry.model_dump_json(exclude_none=True) if entry is not None else "",
                _between_commas(states),
                _LEFT_SECONDS,
                json.dumps(slot),
                RECORD_PREFIX,
            ],
        )
        if outcome == 1:
            return decode(_pairs(answer[0]))
        if outcome == 2:
            raise _taken_over(recording.id)
        present = answer[0].decode()
        if not present:
            raise _not_found(recording.id)
        raise WrongStateError(f"recording {recording.id} is {present} and cannot be resumed")

    def update(self, recording_id: UUID | str, **fields: Any) -> Recording:
        """Set fields that do not change the state; returns the recording as it is then.

        Raises NotFoundError, ValueError for a field that may not be set, pydantic.ValidationError for a value
        of the wrong type.
        """
        recording = self.get(None, recording_id)
        if not fields:
            return recording
        flat = self._update(keys=[record_key(recording_id)], args=_flat(_encode_changes(recording, fields)))
        if not flat:
            raise _not_found(recording_id)
        return decode(_pairs(flat))

    def note(self, recording_id: UUID | str, entry: TimelineEntry, *, by: str | None = None) -> None:
        """Add an entry to the timeline of a recording; of one that is deleted meanwhile nothing is kept.

        Raises TakenOverError when `by` is given and not its node.
        """
        text = entry.model_dump_json(exclude_none=True)
        if not self._note(keys=[record_key(recording_id)], args=[text, "" if by is None else json.dumps(by)]):
            raise _taken_over(recording_id)

    def set_transfer(
        self,
        recording_id: UUID | str,
        transfer: Transfer,
        *,
        only_from: Collection[TransferState] | None = None,
        only_new: bool = False,
        sealed: str = "",
    ) -> Recording:
        """Set a transfer, or add it, with its target sealed if that is given; returns the recording then.

        `only_from` narrows the states that it may be in; `only_new` wants that there is none of that name.
        An event of the transfer that is not its last one is announced to webhooks.
        Raises NotFoundError, WrongStateError.
        """
        recording = self.get(None, recording_id)
        allowed = "" if only_from is None else _between_commas(only_from)
        succeeded, answer = self._transfer(
            keys=[
                record_key(recording_id),
                events_key(recording.organization_id),
                _targets_key(recording_id),
                CHANGES_KEY,
            ],
            args=[transfer.target, transfer.model_dump_json(), ",NONE," if only_new else allowed, sealed],
        )
        if succeeded:
            return decode(_pairs(answer))
        present = answer.decode()
        if not present:
            raise _not_found(recording_id)
        raise WrongStateError(
            f"the transfer of recording {recording_id} to {transfer.target} is already {present}"
        )

    def add_output(self, recording: Recording, output: Output, name: str, sealed: str) -> Recording:
        """Add a live output to a recording, its URL sealed under `name`; returns the recording then.

        Raises NotFoundError, WrongStateError when there are too many.
        """
        return self._set_output(recording, output, is_new=True, name=name, sealed=sealed)

    def set_output(self, recording: Recording, output: Output) -> Recording:
        """Set how a live output is, or that it is removed; returns the recording then.

        Raises NotFoundError, also when there is no such output, WrongStateError when it or the recording is
        over.
        """
        return self._set_output(recording, output, is_new=False, name="", sealed="")

    def _set_output(
        self, recording: Recording, output: Output, *, is_new: bool, name: str, sealed: str
    ) -> Recording:
        succeeded, answer = self._output(
            keys=[
                record_key(recording.id),
                events_key(recording.organization_id),
                _targets_key(recording.id),
            ],
            args=[
                *(str(output.id), output.model_dump_json(), int(is_new)),
                *(f",{','.join(sorted(OUTPUTS_OVER))},", MAX_OUTPUTS, name, sealed, _between_commas(FINAL)),
            ],
        )
        if succeeded:
            return decode(_pairs(answer))
        match reason := answer.decode():
            case "":
                raise _not_found(recording.id)
            case "NONE":
                raise NotFoundError(f"recording {recording.id} has no output {output.id}")
            case "MANY":
                raise WrongStateError(f"recording {recording.id} has {MAX_OUTPUTS} outputs, the maximum")
        raise WrongStateError(f"output {output.id} of recording {recording.id} is already {reason}")

    def was_taken_over(self, recording_id: UUID | str, node: str) -> bool:
        """Whether other nodes have taken a recording over from `node`, which may not know yet."""
        return bool(self._redis.sismember(_left_key(node), str(recording_id)))

    def restore(self, recording: Recording, targets: Mapping[str, str]) -> bool:
        """Keep an unfinished recording, and its sealed storages, that Redis has lost; false if it has not.

        It is in no slot then; if its recorder lives, that claims it again. Raises TakenOverError when another
        node had taken it over from its node: it was deleted since, not lost.
        """
        recording = recording.model_copy(update={"slot": None})
        index = f"{index_prefix(recording.organization_id)}{recording.status}"
        record, active, unfinished, _, events = self._keys_of(recording)
        outcome = self._restore(
            keys=[
                *(record, active, unfinished, events),
                *(index, f"{index}:{recording.meeting_id}"),
                _targets_key(recording.id),
                _left_key(recording.node),
            ],
            args=[
                str(recording.id),
                sort_score(recording),
                member_of(recording),
                int(recording.status in ACTIVE),
                len(targets),
                *(part for pair in targets.items() for part in pair),
                *_flat(encode(recording, Recording.model_fields)),
            ],
        )
        if outcome == 2:
            raise _taken_over(recording.id)
        return bool(outcome)

    def keep_watermark(self, recording_id: UUID, png: bytes) -> None:
        """Keep the picture that is drawn over a recording's, until that is no longer active."""
        # A recording that Redis loses comes to no end in it.
        self._redis.set(_watermark_key(recording_id), png, ex=_WATERMARK_SECONDS)

    def forget_watermark(self, recording_id: UUID) -> None:
        """Keep it no longer, because there is to be no such recording."""
        self._redis.delete(_watermark_key(recording_id))

    def watermark(self, recording_id: UUID) -> bytes | None:
        """The picture that is drawn over a recording's."""
        return cast("bytes | None", self._redis.get(_watermark_key(recording_id)))

    def keep_sealed(self, recording_id: UUID, name: str, sealed: str) -> None:
        """Keep something sealed beside the storages of a recording, for as long as these."""
        self._redis.hset(_targets_key(recording_id), name, sealed)

    def sealed_targets(self, recording_id: UUID | str) -> dict[str, str]:
        """The customer's storages of a recording, sealed, by the names of the transfers that go there."""
        sealed = cast("dict[bytes, bytes]", self._redis.hgetall(_targets_key(recording_id)))
        return {name.decode(): target.decode() for name, target in sealed.items()}

    def sealed_target(self, recording_id: UUID | str, name: str) -> str | None:
        """The customer's storage of a transfer, sealed; None if the recording has none of that name."""
        sealed = cast("bytes | None", self._redis.hget(_targets_key(recording_id), name))
        return None if sealed is None else sealed.decode()

    def kept_before(self, moment: datetime, count: int) -> list[str]:
        """The ids of at most `count` recordings whose files have been kept since before `moment`."""
        ids = self._redis.zrange(
            _KEPT_KEY, "-inf", cast("int", f"({moment.timestamp()}"), byscore=True, offset=0, num=count
        )
        return [recording_id.decode() for recording_id in cast("list[bytes]", ids)]

    def forget_kept(self, recording_id: str) -> None:
        """Take a recording that is not there any more from those whose files are kept."""
        self._redis.zrem(_KEPT_KEY, recording_id)

    def forget_files(self, recording: Recording) -> None:
        """Forget the keys of a recording's storage; the store never had its files, so nothing expires."""
        with self._redis.pipeline() as pipeline:
            pipeline.delete(_targets_key(recording.id))
            pipeline.zrem(_KEPT_KEY, str(recording.id))
            pipeline.execute()

    def expire(self, recording: Recording) -> bool:
        """Mark a recording whose files are gone by their age, and forget the keys of its storage.

        False if that was so already.
        """
        return bool(
            self._expire(
                keys=[
                    record_key(recording.id),
                    events_key(recording.organization_id),
                    _targets_key(recording.id),
                    _KEPT_KEY,
                ],
                args=[
                    str(recording.id),
                    index_prefix(recording.organization_id),
                    recording.meeting_id,
                    member_of(recording),
                    sort_score(recording),
                    EXPIRED,
                    Status.UPLOADED.value,
                    json.dumps(now().isoformat()),
                ],
            )
        )

    def delete(self, recording: Recording) -> None:
        """Forget a recording that has come to its end; harmless for one that is not there any more.

        Raises WrongStateError when it has not ended.
        """
        present = self._delete(
            keys=[
                *self._keys_of(recording)[:3],
                commands_key(recording.id),
                _targets_key(recording.id),
                _KEPT_KEY,
                _DELETED_KEY,
            ],
            args=[
                str(recording.id),
                index_prefix(recording.organization_id),
                recording.meeting_id,
                member_of(recording),
                _between_commas(FINAL),
                EXPIRED,
                f"{now().timestamp():.3f}",
                _DELETED_SECONDS,
            ],
        )
        if present:
            raise WrongStateError(
                f"recording {recording.id} is {present.decode()}; stop it before you delete it"
            )

    def was_deleted(self, recording_id: UUID | str) -> bool:
        """Whether a recording that is not known was deleted in the last month, and not lost."""
        return self._redis.zscore(_DELETED_KEY, str(recording_id)) is not None

    def find(self, organization_id: str, wanted: Wanted) -> Found:
        """A page of an organization's recordings; those that cannot be read are left out, and logged."""
        ids, total = find_ids(self._redis, organization_id, wanted)
        with self._redis.pipeline(transaction=False) as pipeline:
            for recording_id in ids:
                pipeline.hgetall(record_key(recording_id))
            return Found(list(_readable(pipeline.execute())), total)

    def _keys_of(self, recording: Recording) -> list[str]:
        return [
            record_key(recording.id),
            _active_key(recording.organization_id, recording.meeting_id),
            _UNFINISHED_KEY,
            CHANGES_KEY,
            events_key(recording.organization_id),
        ]


async def read_recording(
    client: redis.asyncio.Redis, organization_id: str | None, recording_id: UUID | str
) -> Recording:
    """What `Records.get` does, for programs with an event loop that read one recording after the other.

    `client` comes from `farm.db.clients.connect_async`. Raises NotFoundError, redis.RedisError.
    """
    key = _checked_key(recording_id)
    async with in_time():
        record = await client.hgetall(key)
    return _found(cast("dict[bytes, bytes]", record), organization_id, recording_id)


def _checked_key(recording_id: UUID | str) -> str:
    if not _UUID.fullmatch(str(recording_id)):
        raise _not_found(recording_id)
    return record_key(recording_id)


def _found(record: Mapping[bytes, bytes], organization_id: str | None, recording_id: UUID | str) -> Recording:
    if not record:
        raise _not_found(recording_id)
    recording = decode(record)
    if organization_id is not None and recording.organization_id != organization_id:
        raise _not_found(recording_id)
    return recording


def _idempotency_key(organization_id: str, key: str) -> str:
    return f"farm:idempotency:{organization_id}:{hashlib.sha256(key.encode()).hexdigest()}"


def _between_commas(statuses: Iterable[Status] | Iterable[TransferState]) -> str:
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


def _already_recording(meeting_id: str, recording_id: str) -> AlreadyRecordingError:
    return AlreadyRecordingError(
        f"meeting {meeting_id} is already being recorded by {recording_id}; "
        "stop that recording first, or set allow_multiple_recordings"
    )


def _not_found(recording_id: UUID | str) -> NotFoundError:
    return NotFoundError(f"there is no recording {recording_id}")


def _taken_over(recording_id: UUID | str) -> TakenOverError:
    return TakenOverError(f"recording {recording_id} belongs to another node now")


def _flat(values: Mapping[str, bytes]) -> list[str | bytes]:
    return [part for pair in values.items() for part in pair]


def _pairs(flat: Iterable[bytes]) -> dict[bytes, bytes]:
    parts = iter(flat)
    return dict(zip(parts, parts, strict=True))
