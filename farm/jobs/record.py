"""The RQ job that makes a recording, from its page to its last take.

When its process was killed, another one goes on from what is in the spool.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

import redis

from browser_bot.page.rejoining import PageEvent
from encoder.journal import Journal
from encoder.takes.command import Watermark
from farm.clock import now
from farm.config.settings import Settings, load_settings
from farm.credentials.farm_secret import load_secret_key
from farm.credentials.sealing import Sealer
from farm.db.clients import connect, connect_async
from farm.db.faults import Outage
from farm.errors import NotFound, RecordUnreadable, TakenOver, WrongState
from farm.evidence.dead_recorder import (
    describe_defect,
    describe_exit,
    describe_lost_node,
    keep_death,
    keep_last_frame,
    take_seen,
)
from farm.evidence.directory import evidence_dir
from farm.host.ca_file import nss_database
from farm.live.session import beside
from farm.nodes.registry import Nodes
from farm.nodes.slot_number import slot_number
from farm.pages.access import PAGE_ACCESS, PageAccess, contract_of, open_access, opening_of, surroundings_of
from farm.pages.watermark import corner_of
from farm.queues.recordings import enqueue_finish
from farm.recorder.listener import EndReason, Outcome
from farm.recorder.monitor import Limits
from farm.recorder.opened_stage import OpenedStage
from farm.recorder.plan import Plan
from farm.recorder.recorder import Recorder
from farm.recorder.warm_stage import ready_stage
from farm.recording.commands import read_orders
from farm.recording.findings import Finding
from farm.recording.formats import format_of
from farm.recording.model import (
    ACTIVE,
    Caller,
    Failure,
    Reason,
    ReasonKind,
    Recording,
    Status,
    TimelineEntry,
    organization_caller,
)
from farm.recording.records import Records
from farm.recording.timeline import other_keeper, recorded_elsewhere, take_overs
from farm.recovery.endings import DIED, end_as_kept, end_dead
from farm.spool.ending import Ending, forget_ending, keep_ending
from farm.spool.record_copy import keep_record, register_again
from farm.spool.spool import BREAKS, BREAKS_WITHIN_SECONDS, SpoolHeld, spool_of
from farm.telemetry.counts import Counts, of_claim
from farm.telemetry.recording_log import logging_to

logger = logging.getLogger(__name__)

WATERMARK = "watermark.png"
# In these states nobody can delete a recording: if Redis does not know it, Redis has lost it.
UNDELETABLE = frozenset({Status.RECORDING, Status.PAUSED, Status.UPLOADING})
# Between two looks whether Redis still knows of the recording.
LOOK_SECONDS = 5.0
# How long a recorder that is done tries to tell of a record that it cannot read, and keeps its slot by that.
# While Redis fails it tries for as long as that lasts, as the slot could take nothing else anyway. How it
# ended is kept in the spool meanwhile, and told by another one if this one dies.
TELL_TIMEOUT = 60.0
FAILURES = {
    EndReason.SHUTDOWN: Failure(
        code="node_shut_down", message="the node was shut down; what it had recorded until then was kept"
    ),
    EndReason.DISK_FULL: Failure(
        code="disk_full", message="the node's disk was nearly full; what it had recorded until then was kept"
    ),
}
INTERNAL = Caller(type="INTERNAL")
STOP_REASONS = {
    EndReason.MAX_DURATION: Reason(reason=ReasonKind.MAX_DURATION, caller=INTERNAL),
    EndReason.PAGE_ENDED: Reason(reason=ReasonKind.PAGE_ENDED, caller=INTERNAL),
    EndReason.ALL_PEERS_LEFT: Reason(reason=ReasonKind.ALL_PEERS_LEFT, caller=INTERNAL),
    EndReason.SHUTDOWN: Reason(reason=ReasonKind.INTERNAL_ERROR, caller=INTERNAL),
    EndReason.DISK_FULL: Reason(reason=ReasonKind.INTERNAL_ERROR, caller=INTERNAL),
    EndReason.FAULT: Reason(reason=ReasonKind.INTERNAL_ERROR, caller=INTERNAL),
}


def record(recording_id: str) -> None:
    """Make a recording, from its page to its last take; one that was stopped meanwhile is left alone."""
    settings = load_settings()
    with connect(settings.redis_address) as client:
        records = Records(client)
        try:
            recording = records.get(None, recording_id)
        except NotFound:
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
    except (NotFound, WrongState, TakenOver) as error:
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
    except SpoolHeld:
        # Another job for the same recording was quicker by a moment; it must not be ended under its hands.
        logger.info("recording %s is being recorded", recording_id)
    except Exception as error:
        # A defect of ours must not lose what was recorded until then, nor leave the recording waiting.
        keep_death(evidence, spool.directory, describe_defect(error))
        end_dead(recording.id, settings, client)
        raise


def _claim(recording: Recording, settings: Settings, records: Records, client: redis.Redis) -> Recording:
    """Make the recording this node's. Raises NotFound, WrongState, TakenOver when it is another's."""
    if recording.node in {None, settings.node}:
        return records.claim(recording, settings.node, slot=slot_number())
    gone = Nodes(client).gone(recording.node)
    if gone is None:
        raise TakenOver(f"its node {recording.node} lives")
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
                await asyncio.to_thread(_watermark, recording, settings, records),
                await asyncio.to_thread(_access, recording, settings, records),
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
    except (NotFound, RecordUnreadable, redis.RedisError) as error:
        logger.warning("recording %s is finished later: %s", recording.id, error)


class Reporter:
    """Tells Redis what happens to a recording, in order, and for as long as it takes when Redis is away.

    The recorder never waits for it: a recording goes on whatever becomes of Redis.
    """

    def __init__(
        self, recording: Recording, settings: Settings, records: Records, client: redis.Redis
    ) -> None:
        """Report on `recording`, in the slot that it was claimed for; nothing is sent until `tell` runs."""
        self.when_refused = _nothing
        self.when_over = _nothing
        self._recording = recording
        self._settings = settings
        self._records = records
        self._client = client
        self._started = recording.started_time is not None
        self._kept: Recording | None = None
        self._gives_way = False
        self._news: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self._outage = Outage(f"recording {recording.id}: Redis cannot be told what happens", logging.WARNING)

    async def recording(self, take: Journal) -> None:
        """A take has begun."""
        logger.info("take %d has begun at phase %d µs", take.number, take.phase_us)
        fields = {} if self._started else {"started_time": now()}
        self._started = True
        began = datetime.fromtimestamp(take.wall_us / 1e6, UTC)
        self._say_event("take_began", take, began)
        self._say(Status.RECORDING, **fields)

    async def take_ended(self, take: Journal) -> None:
        """A take has ended."""
        self._say_event("take_ended", take, now())

    async def paused(self) -> None:
        """The last take has ended and the next one waits for a resume."""
        self._say(Status.PAUSED)

    async def broken(self, fault: str) -> None:
        """Something broke; the recording goes on with a new take."""
        self._say_entry(TimelineEntry(event="fault", fault=fault, time=now()))

    async def finding_began(self, finding: Finding) -> None:
        """The watch has found something."""
        self._say_entry(TimelineEntry(event="finding_began", finding=finding, time=now()))

    async def finding_ended(self, finding: Finding, seconds: float) -> None:
        """What it had found is over."""
        self._say_entry(TimelineEntry(event="finding_ended", finding=finding, seconds=seconds, time=now()))

    async def page_event(self, event: PageEvent) -> None:
        """The page did something that explains what is seen."""
        self._say_entry(TimelineEntry(event=event.event, message=event.message, time=now()))

    async def company_came(self) -> None:
        """Somebody is in the meeting."""
        self._news.put_nowait(self._note_company)

    def _note_company(self) -> None:
        with suppress(NotFound):  # it is deleted, or Redis has lost it and is told by the next look
            self._records.update(self._recording.id, had_company=True)

    async def ended(self, outcome: Outcome) -> None:
        """The last take is closed."""
        self.when_over()
        ending = self._ending(outcome)
        if not self._gives_way:
            await asyncio.to_thread(keep_ending, spool_of(self._recording, self._settings), ending)
        self._say(ending.status, **ending.fields)

    def _ending(self, outcome: Outcome) -> Ending:
        node = self._settings.node
        keeper = node if outcome.started else other_keeper(self._recording, node)
        reason, error = self._stop_reason(outcome), FAILURES.get(outcome.reason)
        if outcome.fault is not None:
            error = Failure(code="recording_failed", message=outcome.fault)
        elif keeper is None:
            reason = Reason(reason=ReasonKind.STOPPED_BEFORE_START)
            error = Failure(
                code="stopped_before_start", message="the recording was stopped before its first frame"
            )
        return Ending(
            status=Status.UPLOADING if keeper else Status.ERRORED,
            stopped_time=now(),
            stop_reason=reason,
            error=error,
            node=keeper,
        )

    def _say(self, status: Status, **fields: Any) -> None:
        self._news.put_nowait(partial(self._send, status, fields))

    def _say_event(self, event: Literal["take_began", "take_ended"], take: Journal, time: datetime) -> None:
        self._say_entry(TimelineEntry(event=event, take=take.number, time=time))

    def _say_entry(self, entry: TimelineEntry) -> None:
        self._news.put_nowait(partial(self._note, entry))

    def _stop_reason(self, outcome: Outcome) -> Reason:
        if outcome.reason is EndReason.STOPPED:
            caller = organization_caller(self._recording.organization_id)
            return Reason(reason=ReasonKind.API_CALL, caller=caller)
        return STOP_REASONS[outcome.reason]

    async def tell(self) -> None:
        """Send what happens, as it happens, until cancelled; see to it that Redis knows of the recording."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    send = await self._news.get()
            except TimeoutError:
                await self._patiently(self._look)
                continue
            await self._patiently(send)
            self._news.task_done()

    async def _patiently(self, send: Callable[[], None]) -> None:
        while True:
            try:
                if not self._gives_way:
                    await asyncio.to_thread(send)
                self._outage.over()
                return
            except TakenOver as error:
                # What is recorded here is set aside when the recording has ended; see `farm.spool.set_aside`.
                logger.warning("%s; this one's recorder stops", error)
                self._gives_way = True
                self.when_refused()
                return
            except redis.RedisError as error:
                await asyncio.sleep(self._outage.seen(error))
            except RecordUnreadable as error:
                # A newer API has written to it, and this node is not updated yet.
                logger.warning("recording %s: Redis cannot be told: %s", self._recording.id, error)
                self._outage.over()
                await asyncio.sleep(Outage.LONGEST_PAUSE)

    def _look(self) -> None:
        """Keep the record in the spool, or tell Redis of it if it has lost it."""
        spool = spool_of(self._recording, self._settings)
        try:
            recording = self._records.get(None, self._recording.id)
        except NotFound:
            if register_again(spool.directory, self._records):
                logger.warning("recording %s: Redis had lost it and knows it again", self._recording.id)
                self._say_slot()
            return
        if recording.node != self._settings.node:
            raise TakenOver(f"the node {recording.node} has the recording {recording.id} now")
        if recording.slot != self._recording.slot and recording.status in ACTIVE:
            self._say_slot()
        if recording.status in UNDELETABLE and recording != self._kept:
            keep_record(spool, recording, self._records.sealed_targets(recording.id))
            self._kept = recording

    def _say_slot(self) -> None:
        """Say again which slot it is in: Redis has lost it, or a second job has claimed it in vain."""
        with suppress(NotFound, WrongState):  # ended just now
            self._records.claim(self._recording, self._settings.node, slot=self._recording.slot)

    async def told(self, timeout: float) -> None:
        """Wait until everything has been sent; no longer than `timeout` (s) for a Redis that works."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._news.join()
                    return
            if not self._outage.lasts:
                break
        logger.error("recording %s cannot be told of; its takes stay in the spool", self._recording.id)

    def _note(self, entry: TimelineEntry) -> None:
        self._records.note(self._recording.id, entry, by=self._settings.node)

    def _send(self, status: Status, fields: dict[str, Any]) -> None:
        self._look()
        try:
            self._change_state(status, fields)
        except (NotFound, WrongState) as error:
            # It was ended behind our back, by a stop before its start for instance, and may be deleted.
            logger.warning("%s", error)
            self.when_refused()
            if isinstance(error, NotFound) and status is Status.ERRORED:
                # Nothing was recorded, and nobody else would ever clear what is there.
                spool_of(self._recording, self._settings).remove()
            return
        keeper = fields.get("node", self._settings.node)
        if keeper == self._settings.node:
            self._look()
        if status is Status.UPLOADING:
            enqueue_finish(self._client, self._recording, keeper)
        if status is Status.ERRORED or keeper != self._settings.node:
            spool_of(self._recording, self._settings).remove()

    def _change_state(self, status: Status, fields: dict[str, Any]) -> None:
        try:
            self._records.change_state(self._recording.id, status, by=self._settings.node, **fields)
        except WrongState:
            # Perhaps it was said before, and the answer was lost.
            if self._records.get(None, self._recording.id).status is not status:
                raise


def _watermark(recording: Recording, settings: Settings, records: Records) -> Watermark | None:
    """What is drawn over the picture; it is kept in the spool, for a Redis that forgets it."""
    if recording.watermark is None:
        return None
    spool = spool_of(recording, settings)
    file = spool.directory / WATERMARK
    if not file.exists():
        png = records.watermark(recording.id)
        if png is None:
            logger.error("recording %s: its watermark is gone; it is recorded without", recording.id)
            return None
        spool.make()
        partial = file.with_suffix(".partial")
        partial.write_bytes(png)
        partial.replace(file)
    left, top = corner_of(file.read_bytes(), recording.watermark.position, recording.width, recording.height)
    return Watermark(file, left, top)


def _access(recording: Recording, settings: Settings, records: Records) -> PageAccess:
    """What the client gave to open the page with."""
    sealed = records.sealed_target(recording.id, PAGE_ACCESS)
    if sealed is None:
        return PageAccess()
    return open_access(Sealer(load_secret_key(settings)), recording.id, sealed)


def plan_of(
    recording: Recording,
    settings: Settings,
    watermark: Watermark | None = None,
    access: PageAccess | None = None,
) -> Plan:
    """What the recorder is to do for a recording on this node."""
    opening = opening_of(recording, access or PageAccess(), settings)
    return Plan(
        url=opening.url,
        format=format_of(recording),
        contract=contract_of(recording, settings),
        max_seconds=recording.max_seconds,
        join_seconds=settings.join_seconds,
        join_tries=settings.join_tries,
        chromium=settings.chromium,
        authorities=nss_database(settings.ca_file, settings.data_dir),
        address_rule=settings.address_rule,
        always_allowed=settings.built_in_meetings,
        paused=recording.status is Status.PAUSED,
        limits=Limits(settings.disk_reserve // 2, settings.stage_memory, settings.empty_seconds),
        watermark=watermark,
        hints=opening.hints,
        secrets=opening.secrets,
        access=opening.access,
        timed_texts=recording.timed_texts,
        had_company=recording.had_company,
        surroundings=surroundings_of(recording, settings),
        elsewhere=recorded_elsewhere(recording.timeline, spool_of(recording, settings).numbers()),
    )


def _nothing() -> None:
    pass
