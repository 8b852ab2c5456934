"""Reports the events of a recording to Redis."""

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
"""States in which a recording cannot be deleted: if Redis has no record, it has lost it."""

SYNC_SECONDS = 5.0
"""Interval of the check that Redis still has the record."""

_FAULTS: Final = {
    EndReason.SHUTDOWN: (NODE_SHUT_DOWN, "the node was shut down"),
    EndReason.DISK_FULL: ("disk_full", "the node's disk was nearly full"),
}
"""Error code and sentence for each reason for which the farm itself ends a recording."""

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
    """Reports events to Redis in order, and retries until Redis accepts them.

    The recorder never waits for it: a recording continues during an outage of Redis.
    """

    def __init__(
        self, recording: Recording, settings: Settings, records: Records, client: redis.Redis
    ) -> None:
        """Report on `recording`, in the slot that claimed it; nothing is sent until `run`."""
        self.when_refused = _nothing
        self.when_over = _nothing
        self._recording = recording
        self._settings = settings
        self._records = records
        self._client = client
        self._started = recording.started_time is not None
        self._saved: Recording | None = None
        self._is_taken_over = False
        self._pending: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self._outage = Outage(
            f"recording {recording.id}: its state cannot be written to Redis", logging.WARNING
        )

    async def recording(self, take: Journal) -> None:
        """A take has started."""
        logger.info("take %d started at phase %d µs", take.number, take.phase_us)
        fields = {} if self._started else {"started_time": now()}
        self._started = True
        began = datetime.fromtimestamp(take.wall_us / 1e6, UTC)
        self._report_take("take_began", take, began)
        self._report_state(Status.RECORDING, **fields)

    async def take_ended(self, take: Journal) -> None:
        """A take has ended."""
        spool = spool_of(self._recording, self._settings)
        length = await asyncio.to_thread(spool.length_us, take.number)
        self._report_take("take_ended", take, now(), None if length is None else round(length / 1e6, 3))

    async def paused(self) -> None:
        """The last take has ended and the next one waits for a resume."""
        self._report_state(Status.PAUSED)

    async def broken(self, fault: str) -> None:
        """Something broke; the recording continues with a new take."""
        self._report_entry(TimelineEntry(event="fault", fault=fault, time=now()))

    async def finding_began(self, finding: Finding) -> None:
        """A finding of the monitor has started."""
        self._report_entry(TimelineEntry(event="finding_began", finding=finding, time=now()))

    async def finding_ended(self, finding: Finding, seconds: float) -> None:
        """A finding of the monitor has ended."""
        self._report_entry(TimelineEntry(event="finding_ended", finding=finding, seconds=seconds, time=now()))

    async def page_event(self, event: PageEvent) -> None:
        """The page did something that explains the recorded video."""
        self._report_entry(TimelineEntry(event=event.event, message=event.message, time=now()))

    async def participant_joined(self) -> None:
        """A participant has joined the meeting."""
        self._pending.put_nowait(self._send_participant_joined)

    def _send_participant_joined(self) -> None:
        with suppress(NotFoundError):  # deleted; or lost by Redis, and then the next check restores it
            self._records.update(self._recording.id, had_company=True)

    async def ended(self, outcome: Outcome) -> None:
        """The last take is closed."""
        self.when_over()
        ending = self._ending(outcome)
        if not self._is_taken_over:
            await asyncio.to_thread(save_ending, spool_of(self._recording, self._settings), ending)
        self._report_state(ending.status, **ending.fields)

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

    def _report_state(self, status: Status, **fields: Any) -> None:
        self._pending.put_nowait(partial(self._send, status, fields))

    def _report_take(
        self,
        event: Literal["take_began", "take_ended"],
        take: Journal,
        time: datetime,
        seconds: float | None = None,
    ) -> None:
        self._report_entry(TimelineEntry(event=event, take=take.number, time=time, seconds=seconds))

    def _report_entry(self, entry: TimelineEntry) -> None:
        self._pending.put_nowait(partial(self._note, entry))

    def _stop_reason(self, outcome: Outcome) -> Reason:
        if outcome.reason is EndReason.STOPPED:
            caller = organization_caller(self._recording.organization_id)
            return Reason(reason=ReasonKind.API_CALL, caller=caller)
        return STOP_REASONS[outcome.reason]

    async def run(self) -> None:
        """Send reports until cancelled, and periodically check that Redis still has the record."""
        while True:
            try:
                async with asyncio.timeout(SYNC_SECONDS):
                    send = await self._pending.get()
            except TimeoutError:
                await self._retry_until_available(self._sync_record)
                continue
            await self._retry_until_available(send)
            self._pending.task_done()

    async def _retry_until_available(self, send: Callable[[], None]) -> None:
        while True:
            try:
                if not self._is_taken_over:
                    await asyncio.to_thread(send)
                self._outage.recovered()
                return
            except TakenOverError as error:
                # The takes of this node are set aside after the end; see `farm.spool.set_aside`.
                logger.warning("%s; the recorder on this node stops", error)
                self._is_taken_over = True
                self.when_refused()
                return
            except redis.RedisError as error:
                await asyncio.sleep(self._outage.failed(error))
            except RecordUnreadableError as error:
                # A newer API has written the record, and this node is not upgraded yet.
                logger.warning("recording %s: its state cannot be written: %s", self._recording.id, error)
                self._outage.recovered()
                await asyncio.sleep(Outage.MAX_PAUSE)

    def _sync_record(self) -> None:
        """Save the record in the spool, or restore it if Redis has lost it."""
        spool = spool_of(self._recording, self._settings)
        try:
            recording = self._records.get(None, self._recording.id)
        except NotFoundError:
            if restore_to_redis(spool.directory, self._records):
                logger.warning("recording %s: restored to Redis, which had lost it", self._recording.id)
                self._rewrite_slot()
            return
        if recording.node != self._settings.node:
            raise TakenOverError(f"recording {recording.id} was taken over by the node {recording.node}")
        if recording.slot != self._recording.slot and recording.status in ACTIVE:
            self._rewrite_slot()
        if recording.status in UNDELETABLE and recording != self._saved:
            save_record(spool, recording, self._records.sealed_targets(recording.id))
            self._saved = recording

    def _rewrite_slot(self) -> None:
        """Write the slot again: Redis lost it, or a second job overwrote it."""
        with suppress(NotFoundError, WrongStateError):  # it just ended
            self._records.claim(self._recording, self._settings.node, slot=self._recording.slot)

    async def flush(self, timeout: float) -> None:
        """Wait until all reports are sent; at most `timeout` (s) unless Redis has an outage."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._pending.join()
                    return
            if not self._outage.is_ongoing:
                break
        logger.error(
            "recording %s: its state could not be written; its takes stay in the spool", self._recording.id
        )

    def _note(self, entry: TimelineEntry) -> None:
        self._records.note(self._recording.id, entry, by=self._settings.node)

    def _send(self, status: Status, fields: dict[str, Any]) -> None:
        self._sync_record()
        try:
            self._change_state(status, fields)
        except (NotFoundError, WrongStateError) as error:
            # Something else ended it, for example a stop before its start, and it may be deleted.
            logger.warning("%s", error)
            self.when_refused()
            if isinstance(error, NotFoundError) and status is Status.ERRORED:
                # Nothing was recorded, and nothing else would clear the spool.
                spool_of(self._recording, self._settings).remove()
            return
        keeper = fields.get("node", self._settings.node)
        if keeper == self._settings.node:
            self._sync_record()
        if status is Status.UPLOADING:
            enqueue_finish(self._client, self._recording, keeper)
        if status is Status.ERRORED or keeper != self._settings.node:
            spool_of(self._recording, self._settings).remove()

    def _change_state(self, status: Status, fields: dict[str, Any]) -> None:
        try:
            self._records.change_state(self._recording.id, status, by=self._settings.node, **fields)
        except WrongStateError:
            # An earlier attempt may have succeeded, with its reply lost.
            if self._records.get(None, self._recording.id).status is not status:
                raise


def _failure(outcome: Outcome, *, has_file: bool) -> Failure | None:
    """Why a recording has no file, or the fault that ended it; None if it ended normally."""
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
