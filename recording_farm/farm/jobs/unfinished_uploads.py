"""Aborts uploads to the farm's store that nobody will finish: their node is gone, or it died just then.

Recordings drop their own uploads as they end; this finds what is left, once an hour for the whole farm.
"""

import logging
from datetime import timedelta
from typing import Final
from uuid import UUID

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.errors import NotFoundError, RecordUnreadableError
from recording_farm.farm.recording.model import FINAL
from recording_farm.farm.recording.records import Records
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.parts import NO_PARTS
from recording_farm.farm.storage.store import Store

logger = logging.getLogger(__name__)

_DONE_KEY: Final = "farm:swept:uploads"
_INTERVAL: Final = 3600
"""Seconds."""

_NEW: Final = timedelta(minutes=10)
"""A recording's last state may be about to be written."""


def abort_unfinished(client: redis.Redis, store: Store) -> int:
    """Abort the uploads of recordings that are over or unknown; returns how many.

    Does nothing within an hour of the last time. Raises redis.RedisError.
    """
    if not client.set(_DONE_KEY, 1, nx=True, ex=_INTERVAL):
        return 0
    aborted = 0
    try:
        for upload in store.unfinished_parts():
            if upload.began < now() - _NEW and not _is_wanted(client, upload.recording_id):
                store.abort_parts(upload.recording_id, upload.name, upload.begun)
                logger.warning("recording %s: aborted an unfinished upload to the store", upload.recording_id)
                aborted += 1
    except StorageError as error:
        if error.reason != NO_PARTS:
            logger.warning("cannot look for unfinished uploads in the store: %s", error.message)
    return aborted + _delete_replicas(client, store)


def _delete_replicas(client: redis.Redis, store: Store) -> int:
    """Delete replicas of the spools of recordings that are over or unknown; returns how many."""
    deleted = 0
    try:
        for recording_id in store.spooled():
            if not _is_wanted(client, recording_id):
                store.delete_spool(recording_id)
                logger.warning("recording %s: deleted a replica of its spool in the store", recording_id)
                deleted += 1
    except StorageError as error:
        logger.warning("cannot look for replicas of spools in the store: %s", error.message)
    return deleted


def _is_wanted(client: redis.Redis, recording_id: UUID) -> bool:
    try:
        return Records(client).get(None, recording_id).status not in FINAL
    except NotFoundError:
        return False
    except RecordUnreadableError:
        return True
