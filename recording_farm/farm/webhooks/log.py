"""The log of each webhook: every delivery attempt and its result.

Key
    farm:webhook-log:{org}:{id}   stream: attempts, each as one JSON object in the field `attempt`; limited in
                                  number and age

The organization is part of the key, so nobody can read another's log.
"""

import re
import time
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple, cast
from uuid import UUID

import redis
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from recording_farm.farm.errors import NotFoundError

MAX_LOG: Final = 1000
"""Attempts that are kept for each webhook."""

KEPT_SECONDS: Final = 30 * 86400

MAX_ANSWER: Final = 1024
"""Bytes of a receiver's response that are kept."""

_ENTRY_ID: Final = re.compile(r"[0-9]{1,15}-[0-9]{1,9}")


class AttemptOutcome(StrEnum):
    """The result of an attempt."""

    DELIVERED = "delivered"
    RETRYING = "retrying"
    """It failed and will be retried."""
    GIVEN_UP = "given_up"
    """It failed for the last time."""


class Attempt(BaseModel):
    """One delivery attempt."""

    model_config = ConfigDict(frozen=True)

    delivery_id: str
    recording_id: UUID
    number: Annotated[int, Field(description="1 is the first attempt")]
    time: AwareDatetime
    duration_ms: int
    outcome: AttemptOutcome
    status_code: int | None
    answer: Annotated[str, Field(description="the beginning of the receiver's response")]
    error: str | None
    next_attempt: AwareDatetime | None
    replay_of: str | None
    body: str


class LogEntry(NamedTuple):
    """An attempt with its id in the log."""

    id: str
    attempt: Attempt


class LogPage(NamedTuple):
    """Some entries, the newest first, and the total number."""

    entries: list[LogEntry]
    total: int


def log_key(organization_id: str, webhook_id: UUID | str) -> str:
    """The key of a webhook's log."""
    return f"farm:webhook-log:{organization_id}:{webhook_id}"


def oldest_kept() -> int:
    """The id of the oldest entry that is kept."""
    return int((time.time() - KEPT_SECONDS) * 1000)


class WebhookLog:
    """The logs of all webhooks. Every method raises redis.RedisError when Redis cannot be reached."""

    def __init__(self, client: redis.Redis) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._redis = client

    def exists(self, organization_id: str, webhook_id: str) -> bool:
        """Whether the log has entries."""
        return bool(self._redis.exists(log_key(organization_id, webhook_id)))

    def page(self, organization_id: str, webhook_id: str, offset: int, count: int) -> LogPage:
        """A page of a webhook's log; empty before the first attempt."""
        key = log_key(organization_id, webhook_id)
        with suppress(redis.ResponseError):  # a Redis that rejects writes also shows older ones
            self._redis.xtrim(key, minid=oldest_kept(), approximate=False)
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xlen(key)
            pipeline.xrevrange(key, count=offset + count)
            total, entries = pipeline.execute()
        # XREVRANGE rejects a count of 0.
        wanted = entries[offset : offset + count] if count else []
        return LogPage([_entry(*entry) for entry in wanted], total)

    def of_recording(
        self, organization_id: str, webhook_id: str, recording_id: UUID, since: datetime
    ) -> list[LogEntry]:
        """The attempts for one recording since a time, the newest first."""
        found = self._redis.xrevrange(
            log_key(organization_id, webhook_id), min=int(since.timestamp() * 1000), count=MAX_LOG
        )
        # Most entries may be of other recordings, so these are not parsed as JSON.
        name = str(recording_id).encode()
        entries = (
            _entry(*entry)
            for entry in cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
            if name in entry[1][b"attempt"]
        )
        return [entry for entry in entries if entry.attempt.recording_id == recording_id]

    def get(self, organization_id: str, webhook_id: str, log_id: str) -> LogEntry:
        """One entry. Raises NotFoundError."""
        if _ENTRY_ID.fullmatch(log_id):
            found = self._redis.xrange(log_key(organization_id, webhook_id), min=log_id, max=log_id)
            for entry in cast("list[tuple[bytes, dict[bytes, bytes]]]", found):
                return _entry(*entry)
        raise NotFoundError(f"the log of webhook {webhook_id} has no entry {log_id}")

    def delete(self, organization_id: str, webhook_id: str) -> None:
        """Delete a webhook's log."""
        self._redis.delete(log_key(organization_id, webhook_id))


def _entry(entry_id: bytes, fields: dict[bytes, Any]) -> LogEntry:
    return LogEntry(entry_id.decode(), Attempt.model_validate_json(fields[b"attempt"]))
