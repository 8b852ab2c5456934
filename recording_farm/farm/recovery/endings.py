"""The end of a recording whose recorder died: as its spool says, or with the takes it has, or failed."""

import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import TakenOverError, WrongStateError
from recording_farm.farm.progressive.sending import drop_leftovers
from recording_farm.farm.queues.transfers import enqueue_finish
from recording_farm.farm.recording.model import FINAL, Failure, Reason, ReasonKind, Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.timeline import other_keeper
from recording_farm.farm.spool.ending import load_ending
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.record_copy import save_record
from recording_farm.farm.spool.spool import Spool, spool_of

logger = logging.getLogger(__name__)

DIED = Failure(code="recorder_died", message="the recorder died; the recording up to that moment is kept")

DIED_EARLY = Failure(code="recorder_died", message="the recorder died before its first frame; start it again")


def apply_saved_ending(recording: Recording, settings: Settings, client: redis.Redis) -> bool:
    """Store in Redis the ending that the recorder has saved in the spool; false if there is none.

    Raises NotFoundError when Redis does not know it, redis.RedisError when Redis cannot be reached.
    """
    spool = spool_of(recording, settings)
    ending = load_ending(spool)
    if ending is None:
        return False
    logger.warning("recording %s had ended during an outage of Redis", recording.id)
    records = Records(client)
    change = partial(records.change_state, recording.id, by=settings.node)
    try:
        if recording.status is Status.INVOKED and ending.status is Status.UPLOADING:
            change(Status.RECORDING, started_time=_began(spool))
        recording = change(ending.status, **ending.fields)
    except (WrongStateError, TakenOverError) as error:
        logger.warning("%s", error)
        return True
    if ending.node is not None:
        enqueue_finish(client, recording, ending.node)
    if ending.node == settings.node:
        save_record(spool, recording, records.sealed_targets(recording.id))
    else:
        _remove(spool, recording, records, settings)
    return True


def _began(spool: Spool) -> datetime:
    """When the first take started; now if its journal is lost."""
    journals = spool.journals()
    return datetime.fromtimestamp(journals[0].wall_us / 1e6, UTC) if journals else now()


def fail_or_salvage(recording_id: UUID, settings: Settings, client: redis.Redis) -> None:
    """End a recording whose recorder died too often: with the takes it has, or as failed without any.

    Raises NotFoundError when Redis does not know it, redis.RedisError when Redis cannot be reached.
    """
    records = Records(client)
    recording = records.get(None, recording_id)
    spool = spool_of(recording, settings)
    saved = bool(spool.takes()) and recording.status is not Status.INVOKED
    keeper = settings.node if saved else other_keeper(recording, settings.node)
    fields: dict[str, Any] = {"node": keeper} if keeper else {}
    try:
        recording = records.change_state(
            recording_id,
            Status.UPLOADING if keeper else Status.ERRORED,
            by=settings.node,
            stopped_time=now(),
            stop_reason=Reason(reason=ReasonKind.INTERNAL_ERROR),
            error=DIED if keeper else DIED_EARLY,
            **fields,
        )
    except (WrongStateError, TakenOverError) as error:
        logger.warning("%s", error)
        return
    if keeper:
        enqueue_finish(client, recording, keeper)
    if saved:
        save_record(spool, recording, records.sealed_targets(recording_id))
    else:
        _remove(spool, recording, records, settings)


def _remove(spool: Spool, recording: Recording, records: Records, settings: Settings) -> None:
    """Delete a spool without takes, and what was stored of it, unless another node still has takes."""
    if recording.status in FINAL:
        drop_leftovers(recording, records.sealed_targets(recording.id), Outbox.of(spool), settings)
    spool.remove()
