"""Recovery: what a dead recorder has left in the spool is cut and uploaded."""

import logging

import redis

from farm.errors import FarmError, WrongState
from farm.queues import enqueue_finish
from farm.recordings import ACTIVE, Failure, Reason, ReasonKind, Recording, Status, now
from farm.records import Records
from farm.settings import Settings
from farm.spool import spool_of

logger = logging.getLogger(__name__)

DIED = Failure(code="recorder_died", message="the recorder died; what it had recorded until then was kept")
DIED_EARLY = Failure(code="recorder_died", message="the recorder died before its first frame; start it again")


def recover_spool(settings: Settings, client: redis.Redis) -> int:
    """Recover every recording in this node's spool that nobody works on; returns how many.

    Raises redis.RedisError when Redis cannot be reached.
    """
    recovered = 0
    for directory in sorted(settings.spool_dir.glob("*-*-*-*-*")):
        try:
            recovered += recover(directory.name, settings, client)
        except (FarmError, OSError) as error:
            logger.error("%s lies in the spool and is left alone: %s", directory, error)
    return recovered


def recover(recording_id: str, settings: Settings, client: redis.Redis) -> bool:
    """Take a recording whose recorder is dead to its end; False if its recorder lives.

    Raises NotFound when Redis does not know it, redis.RedisError when Redis cannot be reached.
    """
    records = Records(client)
    recording = records.get(None, recording_id)
    spool = spool_of(recording, settings)
    if spool.is_held():
        return False
    logger.warning("recording %s was %s when its recorder died", recording.id, recording.status)
    try:
        if recording.status in ACTIVE:
            recording = _end(recording, bool(spool.takes()), records)
    except WrongState as error:
        logger.warning("%s", error)
        return False
    if recording.status is Status.UPLOADING:
        enqueue_finish(client, recording, settings.node)
    else:
        spool.remove()
    return True


def _end(recording: Recording, has_takes: bool, records: Records) -> Recording:
    saved = has_takes and recording.status is not Status.INVOKED
    return records.change_state(
        recording.id,
        Status.UPLOADING if saved else Status.ERRORED,
        stopped_time=now(),
        stop_reason=Reason(reason=ReasonKind.INTERNAL_ERROR),
        error=DIED if saved else DIED_EARLY,
    )
