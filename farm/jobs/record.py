"""The RQ job that makes a recording, from its page to its last take.

When its process was killed, another one goes on from what is in the spool.
"""

import asyncio
import logging
import signal
import threading
from contextvars import copy_context
from datetime import timedelta

import redis

from farm.clock import now
from farm.config.settings import Settings, load_settings
from farm.db.clients import connect, connect_async
from farm.errors import NotFoundError, RecordUnreadableError, TakenOverError, WrongStateError
from farm.evidence.dead_recorder import (
    describe_defect,
    describe_exit,
    describe_lost_node,
    keep_death,
    keep_last_frame,
    take_seen,
)
from farm.evidence.directory import evidence_dir
from farm.jobs.plan import access_of, plan_of, watermark_of
from farm.jobs.reporter import Reporter
from farm.live.session import beside
from farm.nodes.registry import Nodes
from farm.nodes.slot_number import slot_number
from farm.queues.transfers import enqueue_finish
from farm.recorder.listener import EndReason
from farm.recorder.opened_stage import OpenedStage
from farm.recorder.recorder import Recorder
from farm.recorder.warm_stage import ready_stage
from farm.recording.commands import read_orders
from farm.recording.model import (
    ACTIVE,
    Recording,
    Status,
    TimelineEntry,
)
from farm.recording.records import Records
from farm.recording.timeline import take_overs
from farm.recovery.endings import DIED, end_as_kept, end_dead
from farm.spool.ending import forget_ending
from farm.spool.spool import BREAKS, BREAKS_WITHIN_SECONDS, SpoolHeldError, spool_of
from farm.telemetry.counts import Counts, of_claim
from farm.telemetry.recording_log import logging_to

logger = logging.getLogger(__name__)

# How long a recorder that is done tries to tell of a record that it cannot read, and keeps its slot by that.
# While Redis fails it tries for as long as that lasts, as the slot could take nothing else anyway. How it
# ended is kept in the spool meanwhile, and told by another one if this one dies.
TELL_TIMEOUT = 60.0


def record(recording_id: str) -> None:
    """Make a recording, from its page to its last take; one that was stopped meanwhile is left alone."""
    settings = load_settings()
    with connect(settings.redis_address) as client:
        records = Records(client)
        try:
            recording = records.get(None, recording_id)
        except NotFoundError:
            logger.info("recording %s was stopped and deleted already", recording_id)
            return
        with logging_to(evidence_dir(settings, recording_id)):
            _make(recording, settings, records, client)


def _make(recording: Recording, settings: Settings, records: Records, client: redis.Redis) -> None:
    recording_id = str(recording.id)
    if recording.status not in ACTIVE:
        logger.info("recording %s is %s already", recording_id, recording.status)
        return
    spool, evidence = spool_of(recording, settings), evidence_dir(settings, recording_id)
    if recording.node is not None and spool.is_held():
        logger.info("recording %s is being recorded", recording_id)
        return
    before = recording.node
    try:
        recording = _claim(recording, settings, records, client)
    except (NotFoundError, WrongStateError, TakenOverError) as error:
        logger.info("recording %s is left alone: %s", recording_id, error)
        return
    seen = take_seen(evidence)
    if before is None:
        Counts(client).add(of_claim(recording, now()))
    else:
        # Whoever recorded it has died, or its node is gone.
        spool.make()
        if before == settings.node:
            if end_as_kept(recording, settings, client):
                return
            records.note(recording.id, TimelineEntry(event="fault", fault=DIED.message, time=now()))
        death = describe_exit(None) if before == settings.node else describe_lost_node(before)
        place = seen or keep_death(evidence, spool.directory, death)
        if spool.breaks_too_often() or _is_taken_over_too_often(recording):
            keep_last_frame(place, spool.directory)
            end_dead(recording.id, settings, client)
            return
        forget_ending(spool)  # of a time before another node had it
        logger.warning("recording %s of the node %s is gone on with", recording_id, before)
        # The recording need not wait for it.
        threading.Thread(target=keep_last_frame, args=(place, spool.directory), daemon=True).start()
    try:
        with ready_stage() as (runner, warm):
            # The runner of a warm stage has the context of when nobody knew of the recording.
            runner.run(_record(recording, settings, records, client, warm), context=copy_context())
    except SpoolHeldError:
        # Another job for the same recording was quicker by a moment; it must not be ended under its hands.
        logger.info("recording %s is being recorded", recording_id)
    except Exception as error:
        # A defect of ours must not lose what was recorded until then, nor leave the recording waiting.
        keep_death(evidence, spool.directory, describe_defect(error))
        end_dead(recording.id, settings, client)
        raise


def _claim(recording: Recording, settings: Settings, records: Records, client: redis.Redis) -> Recording:
    """Make the recording this node's. Raises NotFoundError, WrongStateError, TakenOverError."""
    if recording.node in {None, settings.node}:
        return records.claim(recording, settings.node, slot=slot_number())
    gone = Nodes(client).gone(recording.node)
    if gone is None:
        raise TakenOverError(f"its node {recording.node} lives")
    # The take that ran there ended when the node was last heard.
    ended = max([gone.heard, *(entry.time for entry in recording.timeline)])
    fault = f"the node {recording.node} is gone; another one goes on with the recording"
    entry = TimelineEntry(event="fault", fault=fault, node=recording.node, time=ended)
    return records.claim(recording, settings.node, entry, slot=slot_number())


def _is_taken_over_too_often(recording: Recording) -> bool:
    """Whether a recording has gone through so many nodes that it is the one that kills them."""
    return take_overs(recording.timeline, now() - timedelta(seconds=BREAKS_WITHIN_SECONDS)) >= BREAKS


async def _record(
    recording: Recording,
    settings: Settings,
    records: Records,
    client: redis.Redis,
    warm: OpenedStage | None,
) -> None:
    async with connect_async(settings.redis_address) as orders_client:
        reporter = Reporter(recording, settings, records, client)
        if recording.timed_texts:
            spool_of(recording, settings).begin_texts()
        recorder = Recorder(
            plan_of(
                recording,
                settings,
                await asyncio.to_thread(watermark_of, recording, settings, records),
                await asyncio.to_thread(access_of, recording, settings, records),
            ),
            spool_of(recording, settings),
            evidence_dir(settings, str(recording.id)),
            read_orders(orders_client, recording.id),
            reporter,
            warm,
        )
        reporter.when_refused = recorder.stop
        # The worker passes a shutdown on as SIGTERM; RQ has SIGINT ignored here.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, recorder.stop, EndReason.SHUTDOWN)
        telling = asyncio.create_task(reporter.tell())
        with spool_of(recording, settings).followed():
            async with beside(recording, settings, client, orders_client, lambda: recorder.shown) as end:
                reporter.when_over = end
                await recorder.run()
        await reporter.told(TELL_TIMEOUT)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await asyncio.to_thread(_finish_after_outputs, recording, settings, records, client)


def _finish_after_outputs(
    recording: Recording, settings: Settings, records: Records, client: redis.Redis
) -> None:
    """Have a recording become UPLOADED whose files were where they go before its live outputs had ended."""
    try:
        recording = records.get(None, recording.id)
        if recording.outputs and recording.status is Status.UPLOADING and recording.node == settings.node:
            enqueue_finish(client, recording, settings.node)
    except (NotFoundError, RecordUnreadableError, redis.RedisError) as error:
        logger.warning("recording %s is finished later: %s", recording.id, error)
