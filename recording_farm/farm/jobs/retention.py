"""Retention: deletes expired files and marks their recordings as expired.

The RQ job runs on every node each minute. Its work on shared data is idempotent.
"""

import logging
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.errors import NotFoundError, RecordUnreadableError
from recording_farm.farm.evidence.stored import StoredEvidence, delete_old_evidence
from recording_farm.farm.jobs.unfinished_uploads import abort_unfinished
from recording_farm.farm.recording.files import delete_files, has_been_stored
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.records import Records
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import Store, open_store

logger = logging.getLogger(__name__)

_MAX: Final = 1000
"""Recordings whose files one run deletes; the next run continues."""


def sweep() -> None:
    """Delete data older than FARM_RETENTION in the store and on this node, and abandoned uploads."""
    settings = load_settings()
    store = open_store(settings)
    with connect(settings.redis_address) as client:
        abort_unfinished(client, store)
        if not settings.retention:
            return
        oldest = now() - timedelta(seconds=settings.retention)
        expire_recordings(client, store, oldest)
        delete_old_evidence(StoredEvidence(client, store), oldest, _MAX)
    _remove_evidence(settings, oldest)
    _remove_set_aside(settings, oldest)


def expire_recordings(client: redis.Redis, store: Store, oldest: datetime) -> int:
    """Delete the files of recordings that were UPLOADED before `oldest`; returns the number of recordings.

    If the store cannot delete a file now, the next run retries. Raises redis.RedisError.
    """
    records = Records(client)
    expired = 0
    for recording in _kept_before(records, oldest):
        try:
            delete_files(store, recording)
        except StorageError as error:
            logger.warning("recording %s cannot be deleted from the store: %s", recording.id, error.message)
            continue
        if has_been_stored(recording):
            expired += records.expire(recording)
        else:
            # Its files are only in the customer's storage, which does not expire.
            records.forget_files(recording)
    return expired


def _kept_before(records: Records, oldest: datetime) -> Iterator[Recording]:
    for recording_id in records.kept_before(oldest, _MAX):
        try:
            yield records.get(None, recording_id)
        except NotFoundError:
            records.forget_kept(recording_id)
        except RecordUnreadableError as error:
            logger.error("%s", error.message)


def _remove_evidence(settings: Settings, oldest: datetime) -> None:
    for directory in settings.evidence_dir.glob("*"):
        log = directory / "recorder.log"
        try:
            changed = (log if log.exists() else directory).stat().st_mtime
        except FileNotFoundError:
            continue  # its recording was just deleted
        if changed < oldest.timestamp():
            shutil.rmtree(directory, ignore_errors=True)


def _remove_set_aside(settings: Settings, oldest: datetime) -> None:
    for directory in (*settings.superseded_dir.glob("*"), *settings.old_superseded_dir.glob("*")):
        if directory.stat().st_mtime < oldest.timestamp():
            shutil.rmtree(directory, ignore_errors=True)
