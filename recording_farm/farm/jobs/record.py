"""The RQ job that makes a recording, from its page to its last take.

If its process is killed, another one resumes from the spool.
"""

import asyncio
import logging
import signal
from contextvars import copy_context

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.db.clients import connect, connect_async
from recording_farm.farm.errors import NotFoundError, RecordUnreadableError, TakenOverError, WrongStateError
from recording_farm.farm.evidence.dead_recorder import describe_defect, pop_reported, save_crash_report
from recording_farm.farm.evidence.directory import evidence_dir
from recording_farm.farm.jobs.plan import access_of, plan_of, watermark_of
from recording_farm.farm.jobs.reporter import Reporter
from recording_farm.farm.live.session import live_session
from recording_farm.farm.nodes.slot_number import slot_number
from recording_farm.farm.queues.transfers import enqueue_finish
from recording_farm.farm.recorder.listener import EndReason
from recording_farm.farm.recorder.opened_stage import OpenedStage
from recording_farm.farm.recorder.recorder import Recorder
from recording_farm.farm.recorder.warm_stage import ready_stage
from recording_farm.farm.recording.commands import read_commands
from recording_farm.farm.recording.model import ACTIVE, Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recovery.continuation import claim_from_gone_node, prepare_to_resume
from recording_farm.farm.recovery.endings import fail_or_salvage
from recording_farm.farm.spool.spool import SpoolHeldError, spool_of
from recording_farm.farm.telemetry.counts import Counts, claim_increments
from recording_farm.farm.telemetry.recording_log import logging_to

logger = logging.getLogger(__name__)

FLUSH_TIMEOUT = 60.0
"""How long a finished recorder keeps its slot to flush its reports while Redis works but the record is not
readable. During an outage of Redis it waits without limit, because the slot could take no other job. The
ending is saved in the spool meanwhile, so another process can report it."""


def record(recording_id: str) -> None:
    """Make a recording, from its page to its last take, unless it was stopped meanwhile."""
    settings = load_settings()
    with connect(settings.redis_address) as client:
        records = Records(client)
        try:
            recording = records.get(None, recording_id)
        except NotFoundError:
            logger.info("recording %s was already stopped and deleted", recording_id)
            return
        with logging_to(evidence_dir(settings, recording_id)):
            _make(recording, settings, records, client)


def _make(recording: Recording, settings: Settings, records: Records, client: redis.Redis) -> None:
    if recording.status not in ACTIVE:
        logger.info("recording %s is already %s", recording.id, recording.status)
        return
    if recording.node is not None and spool_of(recording, settings).is_held():
        logger.info("recording %s already has a recorder", recording.id)
        return
    try:
        claimed = _claim(recording, settings, records, client)
    except (NotFoundError, WrongStateError, TakenOverError) as error:
        logger.info("recording %s is not recorded here: %s", recording.id, error)
        return
    if recording.node is None:
        # The report of a recorder that died before it had claimed the recording.
        pop_reported(evidence_dir(settings, str(recording.id)))
        Counts(client).add(claim_increments(claimed, now()))
    elif not prepare_to_resume(claimed, recording.node, settings, client):
        return
    _run_recorder(claimed, settings, records, client)


def _claim(recording: Recording, settings: Settings, records: Records, client: redis.Redis) -> Recording:
    """Make the recording this node's. Raises NotFoundError, WrongStateError, TakenOverError."""
    if recording.node in {None, settings.node}:
        return records.claim(recording, settings.node, slot=slot_number())
    return claim_from_gone_node(recording, recording.node, settings, client)


def _run_recorder(recording: Recording, settings: Settings, records: Records, client: redis.Redis) -> None:
    try:
        with ready_stage() as (runner, warm):
            # The runner of a warm stage was created before the log context of the recording existed.
            runner.run(_record(recording, settings, records, client, warm), context=copy_context())
    except SpoolHeldError:
        # Another job of the same recording was faster; leave the recording to it.
        logger.info("recording %s already has a recorder", recording.id)
    except Exception as error:
        # A bug must neither lose what was recorded so far nor leave the recording unfinished.
        spool = spool_of(recording, settings)
        save_crash_report(evidence_dir(settings, str(recording.id)), spool.directory, describe_defect(error))
        fail_or_salvage(recording.id, settings, client)
        raise


async def _record(
    recording: Recording,
    settings: Settings,
    records: Records,
    client: redis.Redis,
    warm: OpenedStage | None,
) -> None:
    async with connect_async(settings.redis_address) as waiting_client:
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
            read_commands(waiting_client, recording.id),
            reporter,
            warm,
        )
        reporter.when_refused = recorder.stop
        # The worker forwards a shutdown as SIGTERM; RQ ignores SIGINT here.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, recorder.stop, EndReason.SHUTDOWN)
        reporting = asyncio.create_task(reporter.run())
        with spool_of(recording, settings).followed():
            async with live_session(
                recording, settings, client, waiting_client, lambda: recorder.shown
            ) as end:
                reporter.when_over = end
                await recorder.run()
        await reporter.flush(FLUSH_TIMEOUT)
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
        await asyncio.to_thread(_finish_after_outputs, recording, settings, records, client)


def _finish_after_outputs(
    recording: Recording, settings: Settings, records: Records, client: redis.Redis
) -> None:
    """Enqueue the finish job again: if the uploads ended before the live outputs, it sets UPLOADED now."""
    try:
        recording = records.get(None, recording.id)
        if recording.outputs and recording.status is Status.UPLOADING and recording.node == settings.node:
            enqueue_finish(client, recording, settings.node)
    except (NotFoundError, RecordUnreadableError, redis.RedisError) as error:
        logger.warning("recording %s will be finished later: %s", recording.id, error)
