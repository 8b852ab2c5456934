"""Recovery: what dead processes have left in the spool is gone on with, or cut, stored and transferred."""

import logging
from datetime import timedelta
from typing import Final
from uuid import UUID

import redis

from farm.errors import FarmError, NotFound, WrongState
from farm.queues import enqueue_continuation, enqueue_finish, enqueue_transfer, uploads_queue
from farm.recordings import ACTIVE, Failure, Reason, ReasonKind, Status, now
from farm.records import Records
from farm.redis_clients import connect
from farm.settings import Settings, load_settings
from farm.spool import spool_of
from farm.spool_record import register_again
from farm.transfers import OVER, Transfer

logger = logging.getLogger(__name__)

DIED = Failure(code="recorder_died", message="the recorder died; what it had recorded until then was kept")
DIED_EARLY = Failure(code="recorder_died", message="the recorder died before its first frame; start it again")


OVERDUE: Final = timedelta(minutes=1)
"""How much later than its time a try may begin without its job counting as lost."""

_TAKES_DONE: Final = frozenset({Status.UPLOADING, Status.UPLOADED})
"""The states in which no recorder needs the spool any more."""


def recover_spool(settings: Settings, client: redis.Redis) -> int:
    """Recover every recording in this node's spool that nobody works on; returns how many.

    Raises redis.RedisError when Redis cannot be reached.
    """
    recovered = 0
    for directory in sorted(settings.spool_dir.glob("*-*-*-*-*")):
        try:
            if register_again(directory, Records(client)):
                logger.warning("recording %s: Redis had lost it and knows it again", directory.name)
            recovered += recover(directory.name, settings, client)
        except (FarmError, OSError) as error:
            logger.error("%s lies in the spool and is left alone: %s", directory, error)
    return recovered


def recover(recording_id: str, settings: Settings, client: redis.Redis) -> bool:
    """See to it that a recording whose process is dead goes on; False if its recorder lives.

    One that was being recorded is recorded further, on this node. Raises NotFound if Redis does not know it,
    redis.RedisError when Redis cannot be reached.
    """
    records = Records(client)
    recording = records.get(None, recording_id)
    spool = spool_of(recording, settings)
    if recording.status is not Status.UPLOADED and recording.node not in {None, settings.node}:
        return False  # another node has it now
    if recording.status not in _TAKES_DONE and spool.is_held():
        return False
    if recording.status in ACTIVE:
        logger.warning("recording %s was %s when its recorder died", recording.id, recording.status)
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


def look_for_transfers() -> None:
    """The RQ job of each minute: `recover_transfers` on this node."""
    settings = load_settings()
    with connect(settings.redis_address) as client:
        recover_transfers(settings, client)


def recover_transfers(settings: Settings, client: redis.Redis) -> int:
    """Queue the transfers of files on this node that are overdue, because a process or Redis died; how many.

    Raises redis.RedisError when Redis cannot be reached.
    """
    found = 0
    if uploads_queue(client, settings.node).count:
        return found  # what waits there may be just these
    for directory in sorted(settings.spool_dir.glob("*-*-*-*-*")):
        try:
            recording = Records(client).get(None, directory.name)
        except NotFound:
            continue
        for transfer in recording.transfers if recording.files else ():
            if _is_overdue(transfer):
                enqueue_transfer(client, recording, transfer.target, settings.node)
                found += 1
    return found


def _is_overdue(transfer: Transfer) -> bool:
    # One that is RUNNING may be that of a dead process; if it is not, it runs only once all the same.
    if transfer.state in OVER:
        return False
    return transfer.next_try is None or transfer.next_try < now() - OVERDUE


def end_dead(recording_id: UUID, settings: Settings, client: redis.Redis) -> None:
    """Take a recording whose recorder died too often to its end, with what there is.

    Raises NotFound when Redis does not know it, redis.RedisError when Redis cannot be reached.
    """
    records = Records(client)
    recording = records.get(None, recording_id)
    spool = spool_of(recording, settings)
    saved = bool(spool.takes()) and recording.status is not Status.INVOKED
    try:
        records.change_state(
            recording_id,
            Status.UPLOADING if saved else Status.ERRORED,
            stopped_time=now(),
            stop_reason=Reason(reason=ReasonKind.INTERNAL_ERROR),
            error=DIED if saved else DIED_EARLY,
        )
    except WrongState as error:
        logger.warning("%s", error)
        return
    if saved:
        enqueue_finish(client, recording, settings.node)
    else:
        spool.remove()
