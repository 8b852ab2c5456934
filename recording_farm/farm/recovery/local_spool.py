"""Resumes, or finishes, recordings that crashed processes have left in the spool of this node."""

import logging
import shutil
import time
from pathlib import Path
from typing import Final

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.errors import FarmError, NotFoundError, RecordUnreadableError, TakenOverError
from recording_farm.farm.progressive.names import cut_name, is_main_file
from recording_farm.farm.queues.recordings import enqueue_continuation, has_live_job
from recording_farm.farm.queues.transfers import (
    enqueue_finish,
    enqueue_transfer,
    is_to_be_finished,
    uploads_queue,
)
from recording_farm.farm.recording.files import is_in_store
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import ACTIVE, Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.transfers import OVER, is_overdue
from recording_farm.farm.recovery.endings import apply_saved_ending
from recording_farm.farm.recovery.lost_nodes import expect_nodes
from recording_farm.farm.spool.manifest import manifest_path
from recording_farm.farm.spool.outbox import Outbox, remove_takes
from recording_farm.farm.spool.record_copy import restore_to_redis, saved_record
from recording_farm.farm.spool.set_aside import has_recorded, is_superseded
from recording_farm.farm.spool.spool import Spool, spool_directory, spool_of, spools

logger = logging.getLogger(__name__)

_MADE_SECONDS: Final = 30
"""How long takes stay after their files are made: deleting hours of them at once would slow uploads down."""

_TAKES_DONE: Final = frozenset({Status.UPLOADING, Status.UPLOADED})
"""The states in which no recorder needs the spool any more."""


def recover_spool(settings: Settings, client: redis.Redis) -> int:
    """Recover every recording of this node that no process works on; returns how many.

    A recording without a spool was on a disk that this node has lost. Raises redis.RedisError when Redis
    cannot be reached.
    """
    recovered = 0
    without = _recordings_without_spool(settings, Records(client))
    for directory in [*sorted(spools(settings.spool_dir)), *without]:
        try:
            _restore_to_redis(directory, Records(client))
            recovered += recover(directory.name, settings, client)
        except TakenOverError:
            _remove_deleted(directory)
        except (FarmError, OSError) as error:
            logger.error("%s in the spool cannot be recovered: %s", directory, error)
    return recovered


def _recordings_without_spool(settings: Settings, records: Records) -> list[Path]:
    """The spools that are missing: of recordings that this node has begun and not ended."""
    begun = [
        recording
        for recording in records.unfinished()
        if recording.node == settings.node and recording.status is not Status.INVOKED
    ]
    directories = [spool_directory(settings, recording.id) for recording in begun]
    return [directory for directory in directories if not directory.exists()]


def _remove_deleted(directory: Path) -> None:
    logger.warning(
        "removing recording %s, which another node had taken over and a client has deleted", directory.name
    )
    shutil.rmtree(directory, ignore_errors=True)


def recover(recording_id: str, settings: Settings, client: redis.Redis) -> bool:
    """Resume or finish a recording whose process is dead; False if its recorder lives.

    A running recording is resumed on this node, unless it had ended during an outage of Redis; takes of one
    that ended elsewhere are set aside. Raises NotFoundError if Redis does not know it, redis.RedisError when
    Redis cannot be reached.
    """
    records = Records(client)
    recording = records.get(None, recording_id)
    spool = spool_of(recording, settings)
    if recording.status not in _TAKES_DONE and spool.is_held():
        return False
    if is_superseded(recording, settings) and has_recorded(spool, settings):
        enqueue_finish(client, recording, settings.node)
        return True
    if recording.status is not Status.UPLOADED and recording.node not in {None, settings.node}:
        return False  # another node has it now
    if recording.status in ACTIVE:
        if apply_saved_ending(recording, settings, client):
            return True
        logger.warning(
            "recording %s was %s when its recorder died; queueing it to be resumed",
            recording.id,
            recording.status,
        )
        enqueue_continuation(client, recording, settings.node)
        return True
    unfinished = [transfer.target for transfer in recording.transfers if transfer.state not in OVER]
    if recording.status is Status.UPLOADING:
        enqueue_finish(client, recording, settings.node)
    elif recording.status is Status.UPLOADED and unfinished:
        for target in unfinished:
            enqueue_transfer(client, recording, target, settings.node)
    else:
        spool.remove()
    return True


def resume_lost() -> None:
    """The RQ job of each minute: recover the recordings of this node for which no job is queued.

    It also registers the nodes of all unfinished recordings, so that lost ones are found, and deletes takes
    that are in files.
    """
    settings = load_settings()
    remove_made_takes(settings)
    with connect(settings.redis_address) as client:
        expect_nodes(client)
        recover_unqueued(settings, client)
        recover_transfers(settings, client)


def remove_made_takes(settings: Settings) -> None:
    """Delete takes, and cuts that are no files, of recordings whose files are still being uploaded.

    To delete hours of them takes a second, so the job that makes the files leaves them. Live outputs read the
    takes until their end.
    """
    for directory in spools(settings.spool_dir):
        saved = saved_record(directory)
        if saved is None:
            continue
        spool = Spool(directory, format_of(saved[0]))
        manifest = manifest_path(Outbox.of(spool).directory, saved[0])
        try:
            age = time.time() - manifest.stat().st_mtime
        except FileNotFoundError:
            continue
        if age > _MADE_SECONDS and not spool.is_followed():
            remove_takes(spool)
            if not is_main_file(saved[0]):
                (Outbox.of(spool).directory / cut_name(saved[0])).unlink(missing_ok=True)


def recover_unqueued(settings: Settings, client: redis.Redis) -> int:
    """Recover the recordings of this node that no process works on and that have no job; returns how many.

    Their job or their ending was lost in an outage of Redis, or Redis has lost its data. Raises
    redis.RedisError when Redis cannot be reached.
    """
    records = Records(client)
    recovered = 0
    for recording_id in _recordings_here(settings, records):
        try:
            if not _is_cared_for(records.get(None, recording_id), settings, client):
                recovered += recover(recording_id, settings, client)
        except NotFoundError:
            recovered += _recover_unknown(recording_id, settings, client)
        except RecordUnreadableError as error:
            logger.error("%s; its spool is kept as it is", error.message)
        except OSError as error:
            logger.error("%s cannot be read: %s", spool_directory(settings, recording_id), error)
    return recovered


def _recordings_here(settings: Settings, records: Records) -> list[str]:
    """The ids of all recordings that have a spool here, or should have one."""
    here = {directory.name for directory in spools(settings.spool_dir)}
    here |= {str(recording.id) for recording in records.unfinished() if recording.node == settings.node}
    return sorted(here)


def _recover_unknown(recording_id: str, settings: Settings, client: redis.Redis) -> bool:
    """Recover a recording that Redis does not know: Redis has lost it, or a client has deleted it."""
    records = Records(client)
    directory = spool_directory(settings, recording_id)
    try:
        if records.was_taken_over(recording_id, settings.node):
            _remove_deleted(directory)
        elif _restore_to_redis(directory, records):
            return recover(recording_id, settings, client)
    except TakenOverError:
        _remove_deleted(directory)
    except NotFoundError:
        logger.info("recording %s was deleted just now", recording_id)
    return False


def _restore_to_redis(directory: Path, records: Records) -> bool:
    is_new = restore_to_redis(directory, records)
    if is_new:
        logger.warning("recording %s: restored to Redis, which had lost it", directory.name)
    return is_new


def _is_cared_for(recording: Recording, settings: Settings, client: redis.Redis) -> bool:
    """Whether a job exists for an unfinished recording, or for the takes here of one that ended."""
    if recording.status in ACTIVE:
        return has_live_job(client, recording.id)
    if recording.files and any(transfer.state not in OVER for transfer in recording.transfers):
        return True  # see `recover_transfers`
    return is_to_be_finished(client, recording.id, settings.node)


def recover_transfers(settings: Settings, client: redis.Redis) -> int:
    """Queue overdue transfers of files on this node, lost in a crash of a process or Redis; returns how many.

    The files may be in the store alone, with Redis not knowing it because it lost its last writes. Raises
    redis.RedisError when Redis cannot be reached.
    """
    found = 0
    if uploads_queue(client, settings.node).count:
        return found  # what waits there may be just these
    records = Records(client)
    for recording_id in _recordings_here(settings, records):
        try:
            recording = records.get(None, recording_id)
        except (NotFoundError, RecordUnreadableError):
            continue
        if recording.node not in {None, settings.node} and not is_in_store(recording):
            continue  # another node has the files
        for transfer in recording.transfers if recording.files else ():
            if is_overdue(transfer, now()):
                enqueue_transfer(client, recording, transfer.target, settings.node)
                found += 1
    return found
