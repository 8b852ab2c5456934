"""Evidence in the store, where every API can read it, whichever node it is from.

Each directory of evidence on a node is one part: a zip beside the finished files. A store cannot be listed,
so Redis has the names of the parts:

Keys
    farm:evidence:{id}   set: the names of a recording's parts
    farm:evidence        sorted set: ids of all recordings with evidence in the store, by the Unix time of its
                         newest part, or until which its deletion is postponed
"""

import logging
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Final, cast
from uuid import UUID

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.recording.records import record_key
from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.store import Store

logger = logging.getLogger(__name__)

_MAX_FAILURES: Final = 5
"""After so many failures the store itself fails, and each further attempt would take its time."""

_KEY: Final = "farm:evidence"

# A deleted recording gets no more parts: nobody would ever delete them.
_NOTE: Final = """
local record, parts, all = KEYS[1], KEYS[2], KEYS[3]
local id, part, unix_time = ARGV[1], ARGV[2], ARGV[3]
if redis.call('EXISTS', record) == 0 then return 0 end
redis.call('SADD', parts, part)
redis.call('ZADD', all, unix_time, id)
return 1
"""


def new_part(node: str) -> str:
    """A name for a part of `node`; unique, also on a node that was installed again."""
    # It becomes a directory in the zip for clients, and a node may be called `..`.
    return f"{re.sub('^[.-]+', '', node) or 'node'}-{token_hex(4)}"


class StoredEvidence:
    """The parts of recordings' evidence. All methods raise redis.RedisError when Redis cannot be reached."""

    def __init__(self, client: redis.Redis, store: Store) -> None:
        """`client` must return bytes."""
        self._redis = client
        self._store = store
        self._note = client.register_script(_NOTE)

    def parts(self, recording_id: UUID) -> list[str]:
        """The names of the parts that exist or are being uploaded, in a fixed order."""
        members = cast("set[bytes]", self._redis.smembers(_parts_key(recording_id)))
        return sorted(member.decode() for member in members)

    def put(self, recording_id: UUID, part: str, file: Path) -> bool:
        """Upload a zip as a part, replacing an earlier one; false if there is no such recording.

        `file` must not change any more. Raises StorageError.
        """
        # Noted first: a deletion of the recording meanwhile must know of it.
        noted = self._note(
            keys=[record_key(recording_id), _parts_key(recording_id), _KEY],
            args=[str(recording_id), part, f"{now().timestamp():.3f}"],
        )
        if not noted:
            return False
        self._store.put(recording_id, file, _name(part), Checkpoint(file.with_suffix(".checkpoint")))
        if self._redis.exists(record_key(recording_id)):
            return True
        self.delete_part(recording_id, part)
        return False

    def fetch(self, recording_id: UUID, part: str, target: Path) -> None:
        """Download a part to `target`. Raises StorageError, `not_found` if it does not exist."""
        self._store.fetch(recording_id, _name(part), target)

    def delete(self, recording_id: UUID) -> None:
        """Delete all of a recording's evidence from the store; harmless without any.

        Raises StorageError when not all of it could be deleted.
        """
        failed: StorageError | None = None
        for part in self.parts(recording_id):
            try:
                self.delete_part(recording_id, part)
            except StorageError as error:
                failed = error
        if failed is not None:
            raise failed
        self._redis.zrem(_KEY, str(recording_id))

    def delete_part(self, recording_id: UUID, part: str) -> None:
        """Delete one part. If it raises StorageError, the part is still listed."""
        self._store.delete(recording_id, _name(part))
        self._redis.srem(_parts_key(recording_id), part)

    def older_than(self, oldest: datetime, count: int) -> Iterator[UUID]:
        """At most `count` recordings whose newest evidence was stored before `oldest`."""
        ids = self._redis.zrange(
            _KEY, "-inf", cast("int", f"({oldest.timestamp()}"), byscore=True, offset=0, num=count
        )
        for recording_id in cast("list[bytes]", ids):
            yield UUID(recording_id.decode())

    def postpone(self, recording_id: UUID, moment: datetime) -> None:
        """Let a recording's evidence count as no older than `moment`."""
        self._redis.zadd(_KEY, {str(recording_id): moment.timestamp()}, xx=True, gt=True)


def delete_old_evidence(evidence: StoredEvidence, oldest: datetime, count: int) -> int:
    """Delete evidence stored before `oldest`, of at most `count` recordings; returns their number.

    What the store cannot delete now is postponed behind all that is as old. Raises redis.RedisError.
    """
    deleted = failures = 0
    for recording_id in evidence.older_than(oldest, count):
        try:
            evidence.delete(recording_id)
            deleted += 1
        except StorageError as error:
            logger.warning(
                "cannot delete the evidence of recording %s from the store: %s", recording_id, error.message
            )
            evidence.postpone(recording_id, oldest)
            failures += 1
            if failures == _MAX_FAILURES:
                break
    return deleted


def _name(part: str) -> str:
    return f"evidence-{part}.zip"


def _parts_key(recording_id: UUID) -> str:
    return f"{_KEY}:{recording_id}"
