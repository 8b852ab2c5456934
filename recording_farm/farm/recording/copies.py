"""Progress of each copy of a recording, in Redis.

Key
    farm:copies:{id}:{node}    what the node that records has reported of each copy: JSON, by the name of its
                               transfer; it expires when the node stops reporting

It is not in the record, because each change of a record is announced to all who follow it.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final, cast
from uuid import UUID

import redis
import redis.asyncio
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from recording_farm.farm.db.clients import in_time
from recording_farm.farm.recording.model import Recording, Status

KEPT_SECONDS: Final = 30
"""A report is older only if its node, or Redis, was away."""

_REPORTED: Final = frozenset({Status.RECORDING, Status.PAUSED, Status.UPLOADING})
"""The states in which a node reports copies."""


class Copy(BaseModel):
    """Progress of a copy: the acknowledged bytes of the main file, and the seconds it is behind.

    `in_parts`: it is uploaded while the recording runs, else as a whole at the end. `has_fallen_behind`: more
    than a normal amount waits to be uploaded. For a store in the node's own data directory both are None,
    because nothing is uploaded.
    """

    model_config = ConfigDict(frozen=True)

    uploaded_bytes: int | None = None
    behind_seconds: float | None = None
    in_parts: bool = False
    has_fallen_behind: bool = False


Copies = Mapping[str, Copy]
"""The copies of one recording, by the names of its transfers."""

NO_COPIES: Final[Copies] = {}

_COPIES: Final = TypeAdapter(dict[str, Copy])


class CopyReports:
    """The reports in Redis. Every method raises redis.RedisError when Redis cannot be reached."""

    def __init__(self, client: redis.Redis) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._redis = client

    def write(self, node: str, reports: Mapping[str, Copies]) -> None:
        """Save the reports of `node`, by recording id."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for recording_id, copies in reports.items():
                content = json.dumps({target: copy.model_dump() for target, copy in copies.items()})
                pipeline.set(_key(recording_id, node), content, ex=KEPT_SECONDS)
            pipeline.execute()

    def read(self, recordings: Iterable[Recording]) -> dict[UUID, Copies]:
        """The copies of recordings, by id, without recordings that no node reports."""
        keys = _keys(recordings)
        found = cast("list[bytes | None]", self._redis.mget(list(keys.values()))) if keys else []
        return _decoded(keys, found)


async def read_copies(client: redis.asyncio.Redis, recordings: Iterable[Recording]) -> dict[UUID, Copies]:
    """`CopyReports.read` for programs with an event loop. Raises redis.RedisError."""
    keys = _keys(recordings)
    if not keys:
        return {}
    async with in_time():
        found = await client.mget(list(keys.values()))
    return _decoded(keys, cast("list[bytes | None]", found))


def _keys(recordings: Iterable[Recording]) -> dict[UUID, str]:
    return {
        recording.id: _key(recording.id, recording.node)
        for recording in recordings
        if recording.status in _REPORTED and recording.node is not None
    }


def _decoded(keys: Mapping[UUID, str], found: Iterable[bytes | None]) -> dict[UUID, Copies]:
    return {
        recording_id: copies
        for recording_id, content in zip(keys, found, strict=True)
        if content is not None and (copies := _copies(content))
    }


def _copies(content: bytes) -> Copies:
    try:
        return _COPIES.validate_json(content)
    except ValidationError:
        # From another version of the farm.
        return NO_COPIES


def _key(recording_id: UUID | str, node: str) -> str:
    return f"farm:copies:{str(recording_id).lower()}:{node}"
