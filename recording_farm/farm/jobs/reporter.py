"""Tells Redis what happens to a recording."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

import redis

from recording_farm.browser_bot.page.rejoining import PageEvent
from recording_farm.encoder.journal import Journal
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.faults import Outage
from recording_farm.farm.errors import NotFoundError, RecordUnreadableError, TakenOverError, WrongStateError
from recording_farm.farm.queues.transfers import enqueue_finish
from recording_farm.farm.recorder.listener import EndReason, Listener, Outcome
from recording_farm.farm.recording.findings import Finding
from recording_farm.farm.recording.model import (
    ACTIVE,
    NODE_SHUT_DOWN,
    STOPPED_BEFORE_START,
    Caller,
    Failure,
    Reason,
    ReasonKind,
    Recording,
    Status,
    TimelineEntry,
    organization_caller,
)
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.timeline import other_keeper
from recording_farm.farm.spool.ending import Ending, save_ending
from recording_farm.farm.spool.record_copy import restore_to_redis, save_record
from recording_farm.farm.spool.spool import spool_of

logger = logging.getLogger(__name__)

UNDELETABLE = frozenset({Status.RECORDING, Status.PAUSED, Status.UPLOADING})
"""In these states nobody can delete a recording: if Redis does not know it, Redis has lost it."""

LOOK_SECONDS = 5.0
"""Between two looks whether Redis still knows of the recording."""

_FAULTS: Final = {
    EndReason.SHUTDOWN: (NODE_SHUT_DOWN, "the node was shut down"),
    EndReason.DISK_FULL: ("disk_full", "the node's disk was nearly full"),
}
"""Code and sentence for each way in which the farm itself ends a recording."""

INTERNAL = Caller(type="INTERNAL")

STOP_REASONS = {
    EndReason.MAX_DURATION: Reason(reason=ReasonKind.MAX_DURATION, caller=INTERNAL),
    EndReason.PAGE_ENDED: Reason(reason=ReasonKind.PAGE_ENDED, caller=INTERNAL),
    EndReason.ALL_PEERS_LEFT: Reason(reason=ReasonKind.ALL_PEERS_LEFT, caller=INTERNAL),
    EndReason.SHUTDOWN: Reason(reason=ReasonKind.INTERNAL_ERROR, caller=INTERNAL),
    EndReason.DISK_FULL: Reason(reason=ReasonKind.INTERNAL_ERROR, caller=INTERNAL),
    EndReason.FAULT: Reason(reason=ReasonKind.INTERNAL_ERROR, caller=INTERNAL),
}


class Reporter(Listener):
    """Tells Redis what happens to a recording, in order, and for as long as it takes when Redis is away.

    The recorder never waits for it: a recording goes on whatever becomes of Redis.
    """

    def __init__(
        self, recording: Recording, settings: Settings, records: Records, client: redis.Redis
    ) -> None:
        """Report on `recording`, in the slot that it was claimed for; nothing is sent until `run`."""
        self.when_refused = _nothing
        self.when_over = _nothing
        self._recording = recording
        self._settings = settings
        self._records = records
        self._client = client
        self._started = recording.started_time is not None
        self._kept: Recording | None = None
        self._gives_way = False
        self._pending: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
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
        spool = spool_of(self._recording, self._settings)
        length = await asyncio.to_thread(spool.length_us, take.number)
        self._say_event("take_ended", take, now(), None if length is None else round(length / 1e6, 3))

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

    async def participant_joined(self) -> None:
        """Somebody is in the meeting."""
        self._pending.put_nowait(self._note_company)

    def _note_company(self) -> None:
        with suppress(NotFoundError):  # it is deleted, or Redis has lost it and is told by the next look
            self._records.update(self._recording.id, had_company=True)

    async def ended(self, outcome: Outcome) -> None:
        """The last take is closed."""
        self.when_over()
        ending = self._ending(outcome)
        if not self._gives_way:
            await asyncio.to_thread(save_ending, spool_of(self._recording, self._settings), ending)
        self._say(ending.status, **ending.fields)

    def _ending(self, outcome: Outcome) -> Ending:
        node = self._settings.node
        keeper = node if outcome.started else other_keeper(self._recording, node)
        reason = self._stop_reason(outcome)
        if keeper is None and outcome.fault is None and outcome.reason is EndReason.STOPPED:
            reason = Reason(reason=ReasonKind.STOPPED_BEFORE_START, caller=reason.caller)
        return Ending(
            status=Status.UPLOADING if keeper else Status.ERRORED,
            stopped_time=now(),
            stop_reason=reason,
            error=_failure(outcome, has_file=keeper is not None),
            node=keeper,
        )

    def _say(self, status: Status, **fields: Any) -> None:
        self._pending.put_nowait(partial(self._send, status, fields))

    def _say_event(
        self,
        event: Literal["take_began", "take_ended"],
        take: Journal,
        time: datetime,
        seconds: float | None = None,
    ) -> None:
        self._say_entry(TimelineEntry(event=event, take=take.number, time=time, seconds=seconds))

    def _say_entry(self, entry: TimelineEntry) -> None:
        self._pending.put_nowait(partial(self._note, entry))

    def _stop_reason(self, outcome: Outcome) -> Reason:
        if outcome.reason is EndReason.STOPPED:
            caller = organization_caller(self._recording.organization_id)
            return Reason(reason=ReasonKind.API_CALL, caller=caller)
        return STOP_REASONS[outcome.reason]

    async def run(self) -> None:
        """Send what happens, as it happens, until cancelled; see to it that Redis knows of the recording."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    send = await self._pending.get()
            except TimeoutError:
                await self._retry_until_available(self._look)
                continue
            await self._retry_until_available(send)
            self._pending.task_done()

    async def _retry_until_available(self, send: Callable[[], None]) -> None:
        while True:
            try:
                if not self._gives_way:
                    await asyncio.to_thread(send)
                self._outage.recovered()
                return
            except TakenOverError as error:
                # What is recorded here is set aside when the recording has ended; see `farm.spool.set_aside`.
                logger.warning("%s; this one's recorder stops", error)
                self._gives_way = True
                self.when_refused()
                return
            except redis.RedisError as error:
                await asyncio.sleep(self._outage.failed(error))
            except RecordUnreadableError as error:
                # A newer API has written to it, and this node is not updated yet.
                logger.warning("recording %s: Redis cannot be told: %s", self._recording.id, error)
                self._outage.recovered()
                await asyncio.sleep(Outage.MAX_PAUSE)

    def _look(self) -> None:
        """Keep the record in the spool, or tell Redis of it if it has lost it."""
        spool = spool_of(self._recording, self._settings)
        try:
            recording = self._records.get(None, self._recording.id)
        except NotFoundError:
            if restore_to_redis(spool.directory, self._records):
                logger.warning("recording %s: Redis had lost it and knows it again", self._recording.id)
                self._say_slot()
            return
        if recording.node != self._settings.node:
            raise TakenOverError(f"the node {recording.node} has the recording {recording.id} now")
        if recording.slot != self._recording.slot and recording.status in ACTIVE:
            self._say_slot()
        if recording.status in UNDELETABLE and recording != self._kept:
            save_record(spool, recording, self._records.sealed_targets(recording.id))
            self._kept = recording

    def _say_slot(self) -> None:
        """Say again which slot it is in: Redis has lost it, or a second job has claimed it in vain."""
        with suppress(NotFoundError, WrongStateError):  # ended just now
            self._records.claim(self._recording, self._settings.node, slot=self._recording.slot)

    async def flush(self, timeout: float) -> None:
        """Wait until everything has been sent; no longer than `timeout` (s) for a Redis that works."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._pending.join()
                    return
            if not self._outage.is_ongoing:
                break
        logger.error("recording %s cannot be told of; its takes stay in the spool", self._recording.id)

    def _note(self, entry: TimelineEntry) -> None:
        self._records.note(self._recording.id, entry, by=self._settings.node)

    def _send(self, status: Status, fields: dict[str, Any]) -> None:
        self._look()
        try:
            self._change_state(status, fields)
        except (NotFoundError, WrongStateError) as error:
            # It was ended behind our back, by a stop before its start for instance, and may be deleted.
            logger.warning("%s", error)
            self.when_refused()
            if isinstance(error, NotFoundError) and status is Status.ERRORED:
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
        except WrongStateError:
            # Perhaps it was said before, and the answer was lost.
            if self._records.get(None, self._recording.id).status is not status:
                raise


def _failure(outcome: Outcome, *, has_file: bool) -> Failure | None:
    """Why a recording has no file, or the fault that ended it; None if it ended as it should."""
    if outcome.fault is not None:
        return Failure(code="recording_failed", message=outcome.fault)
    if fault := _FAULTS.get(outcome.reason):
        code, sentence = fault
        kept = "the recording up to that moment is kept" if has_file else "nothing was recorded before that"
        return Failure(code=code, message=f"{sentence}; {kept}")
    if has_file:
        return None
    if outcome.reason is EndReason.STOPPED:
        sentence = "the recording was stopped before its first frame; there is no file"
        return Failure(code=STOPPED_BEFORE_START, message=sentence)
    return Failure(code="ended_before_start", message="the page ended before the first frame was recorded")


def _nothing() -> None:
    pass
