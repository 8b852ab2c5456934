"""The recorder: the program of one recording, from opening its stage to its last take.

It does not know Redis: commands come in through an iterator, events go out through a listener.

Every failure has one remedy: the take ends and the next one starts, on a new stage unless only the encoder
failed. After a recorder was killed another one resumes from the takes in its spool. The monitor
(`farm.recorder.monitor`) finds what is wrong without failing; its remedies are carried out here.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from recording_farm.browser_bot.errors import (
    PageError,
    PageOverError,
    StageDegradedError,
    StageError,
    StageLimitError,
)
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.rejoining import PageEvent
from recording_farm.browser_bot.page.site_auth import apply_access
from recording_farm.browser_bot.stage.box import Resource
from recording_farm.browser_bot.stage.browser import Driver
from recording_farm.browser_bot.stage.compositor import trace_depth
from recording_farm.browser_bot.stage.display import Display
from recording_farm.browser_bot.stage.stage import Stage
from recording_farm.browser_bot.waiting import first_of
from recording_farm.encoder.errors import EncoderError, EncoderTooSlowError
from recording_farm.encoder.journal import Journal
from recording_farm.encoder.takes.command import Source, Watermark
from recording_farm.encoder.takes.sequence import TakeSequence
from recording_farm.farm.evidence.collect import collect
from recording_farm.farm.recorder.faults import counts_as_break, is_lasting, sentence_of
from recording_farm.farm.recorder.listener import EndReason, Listener, Outcome
from recording_farm.farm.recorder.monitor import (
    INTERVAL_SECONDS,
    FindingStarted,
    Monitor,
    Observation,
    Remedy,
)
from recording_farm.farm.recorder.observer import Observer, observe_disk
from recording_farm.farm.recorder.opened_stage import OpenedStage, open_before
from recording_farm.farm.recorder.page_texts import PageTexts
from recording_farm.farm.recorder.plan import Plan
from recording_farm.farm.recorder.recorded_time import RecordedTime
from recording_farm.farm.recording.commands import Command
from recording_farm.farm.recording.findings import Finding, keep_tally, read_tally
from recording_farm.farm.spool.breaks import breaks_too_often
from recording_farm.farm.spool.spool import Spool

logger = logging.getLogger(__name__)

LAST_DEPTH_TIMEOUT = 2.0
CLEANUP_TIMEOUT = 10.0
"""How long the end of a recording waits for failed stages to be torn down."""

MAX_REPORTED = 50
"""A page whose network flaps, or that reloads again and again, must not fill the timeline."""

REACHABLE_INTERVAL = 5.0
"""Seconds between two checks whether the server of a page that is cut off can be reached."""

ENDS = {Finding.DISK_FULL: EndReason.DISK_FULL, Finding.MEETING_EMPTY: EndReason.ALL_PEERS_LEFT}
"""The findings that end a recording."""

STAGE_FINDINGS = {
    Finding.NO_SOUND: "participants speak but the page plays nothing",
    Finding.FROZEN_PICTURE: "the picture is frozen",
    Finding.FROZEN_VIDEO: "the page's video moves but the picture is frozen",
    Finding.FOREIGN_WINDOW: "a window other than the page's was on the display",
    Finding.COVERED_PICTURE: "a window covers the page",
    Finding.BLACK_PICTURE: "the picture is black",
    Finding.BLANK_PICTURE: "the page shows a single color",
    Finding.PAGE_CUT_OFF: "the page lost its connections to the meeting",
}
"""Descriptions of the findings that lead to evidence or a new stage."""


class Recorder:
    """Makes one recording. `run` is called once."""

    def __init__(
        self,
        plan: Plan,
        spool: Spool,
        evidence: Path,
        commands: AsyncIterator[Command],
        listener: Listener,
        warm: OpenedStage | None = None,
    ) -> None:
        """Record into `spool`; evidence of failures goes to the directory `evidence`.

        `warm` is an open stage: it is used if it meets the plan's needs, and torn down in any case.
        """
        self._plan = plan
        self._spool = spool
        self._evidence = evidence
        self._commands = commands
        self._listener = listener
        self._warm = warm
        self._stop = asyncio.Event()
        self._stop_reason = EndReason.STOPPED
        # Commands set the wanted state: a command that comes twice, or late together with its opposite, is
        # harmless.
        self._pause_wanted = plan.paused
        self._pause_changed = asyncio.Event()
        self._takes: TakeSequence | None = None
        self._take: Journal | None = None
        self._time = RecordedTime(spool, plan.elsewhere, plan.max_seconds)
        self._started = bool(spool.journals())
        self._take_over = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._fault: str | None = None
        self._scene: tuple[Stage, Bot] | None = None
        self._drawn: Watermark | None = None
        self._monitor = Monitor(
            plan.limits, read_tally(spool.directory, plan.take_overs, had_company=plan.had_company)
        )
        self._participant_reported = plan.had_company
        self._findings_reported = 0
        self._page_events_reported = 0
        self._texts = PageTexts(spool)
        self._observer: Observer | None = None
        self._rejoining: asyncio.Task[None] | None = None
        self._reachable: bool | None = None
        self._stage_fault: StageError | None = None
        self._stage_condemned = asyncio.Event()
        self._clearing: set[asyncio.Task[None]] = set()

    @property
    def takes(self) -> TakeSequence | None:
        """The takes with their progress, once there is a stage."""
        return self._takes

    @property
    def recorded_ns(self) -> int:
        """Recorded time so far, without pauses."""
        return self._time.recorded_ns

    @property
    def shown(self) -> tuple[Display, int, int, Watermark | None] | None:
        """The display, its recorded size and the overlay; None while no take runs."""
        if self._take is None or self._scene is None:
            return None
        return self._scene[0].display, self._plan.format.width, self._plan.format.height, self._drawn

    def stop(self, reason: EndReason = EndReason.STOPPED) -> None:
        """End the recording properly, as a stop command does. The first call gives the reason."""
        if not self._stop.is_set():
            self._stop_reason = reason
            self._time.stop()
        self._stop.set()

    async def run(self) -> Outcome:
        """Make the recording and return how it ended; a failure is an outcome, not an exception."""
        self._spool.make()
        with self._spool.held():
            background = [
                asyncio.create_task(self._read_commands()),
                asyncio.create_task(self._run_monitor()),
            ]
            try:
                return await self._record()
            finally:
                background += [] if self._rejoining is None else [self._rejoining]
                for task in background:
                    task.cancel()
                for problem in await asyncio.gather(*background, return_exceptions=True):
                    if isinstance(problem, Exception):
                        logger.error("the task for commands or the monitor failed", exc_info=problem)

    async def _read_commands(self) -> None:
        async for command in self._commands:
            logger.info("command: %s", command)
            if command is Command.STOP:
                self.stop()
            else:
                self._pause_wanted = command is Command.PAUSE
                self._pause_changed.set()

    async def _run_monitor(self) -> None:
        """Observe once a second, from the first take to the last, and carry out the monitor's remedies."""
        tally = self._monitor.tally
        while True:
            observer = self._observer
            seen = observe_disk(self._spool.directory) if observer is None else await observer.observe()
            # Observations of a stage that was discarded meanwhile do not count.
            if observer is self._observer:
                await self._judge(replace(seen, reachable=self._reachable))
                if observer is not None and Finding.SOUND_ELSEWHERE in self._monitor.present:
                    await observer.move_audio_back()
            if tally != self._monitor.tally:
                tally = self._monitor.tally
                keep_tally(self._spool.directory, tally, self._plan.take_overs)
            if tally.had_company and not self._participant_reported:
                self._participant_reported = True
                await self._listener.participant_joined()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _judge(self, seen: Observation) -> None:
        """Pass an observation to the monitor and carry out its remedies."""
        for change in self._monitor.observe(seen):
            if isinstance(change, FindingStarted):
                await self._start_finding(change)
            elif self._findings_reported <= MAX_REPORTED:
                logger.info("finding %s ended after %.1f s", change.finding, change.seconds)
                await self._listener.finding_ended(change.finding, change.seconds)

    async def _start_finding(self, started: FindingStarted) -> None:
        """Report a finding and carry out its remedy."""
        finding = started.finding
        self._findings_reported += 1
        if self._findings_reported <= MAX_REPORTED:
            logger.warning("finding: %s", finding)
            await self._listener.finding_began(finding)
        match started.remedy:
            case Remedy.END:
                self.stop(ENDS[finding])
            case Remedy.REJOIN:
                self._in_background(self._keep_evidence(self._scene, StageError(STAGE_FINDINGS[finding])))
                if self._rejoining is None or self._rejoining.done():
                    self._rejoining = asyncio.create_task(self._rejoin(finding, self._observer, self._scene))
            case Remedy.NEW_STAGE:
                self._condemn(StageDegradedError(STAGE_FINDINGS[finding]))
            case Remedy.FAIL_STAGE:
                self._condemn(StageError(STAGE_FINDINGS[finding]))
            case Remedy.EVIDENCE:
                self._in_background(self._keep_evidence(self._scene, StageError(STAGE_FINDINGS[finding])))

    async def _rejoin(
        self, finding: Finding, observer: Observer | None, scene: tuple[Stage, Bot] | None
    ) -> None:
        """Reload the page as soon as its server can be reached, unless it recovered by itself."""
        assert scene is not None
        _, bot = scene
        was_reachable = True
        try:
            while finding in self._monitor.present and observer is self._observer:
                self._reachable = await bot.is_reachable()
                if self._reachable and was_reachable:
                    self._monitor.page_loaded()
                    bot.reload(STAGE_FINDINGS[finding])
                    return
                # After a network outage most pages recover by themselves.
                was_reachable = self._reachable
                await asyncio.sleep(REACHABLE_INTERVAL)
        finally:
            self._reachable = None

    def _condemn(self, fault: StageError) -> None:
        """Have the open stage replaced by a new one."""
        self._stage_fault = fault
        self._stage_condemned.set()

    async def _condemned(self) -> None:
        await self._stage_condemned.wait()
        assert self._stage_fault is not None
        raise self._stage_fault

    async def _record(self) -> Outcome:
        """Record on one stage after the other, until the recording ends."""
        try:
            while True:
                outcome = await self._record_on_one_stage()
                if outcome is not None:
                    return outcome
        finally:
            if self._clearing:
                await asyncio.wait(self._clearing, timeout=CLEANUP_TIMEOUT)

    async def _record_on_one_stage(self) -> Outcome | None:
        """Record on a stage; None when it failed and the recording continues on another one."""
        self._scene = None
        async with AsyncExitStack() as parts:
            try:
                stage = await self._open_stage(parts)
                return await self._end(self._stop_reason if stage is None else await self._record_on(stage))
            except (StageError, PageError, EncoderError) as raised:
                error = await self._judge_limit(raised)
                logger.error("%s", error)
                fault = error
                if self._stop.is_set():
                    return await self._end(self._stop_reason)
                if isinstance(error, PageOverError) and self._time.has_begun:
                    # The meeting was over when its page was joined again.
                    return await self._end(EndReason.PAGE_ENDED)
                if await self._must_end(error):
                    await self._keep_evidence(self._scene, error)
                    self._fault = sentence_of(error)
                    return await self._end(EndReason.FAULT)
            await self._abandon_takes()
            # The next stage does not wait for this one's evidence and teardown.
            parts.push_async_callback(self._keep_evidence, self._scene, fault)
            self._in_background(parts.pop_all().aclose())
            return None

    async def _judge_limit(self, error: Exception) -> Exception:
        """Report a page that broke a limit of its stage; return that error, or the one that is given."""
        if self._scene is not None and isinstance(error, StageError | PageError):
            error = self._scene[0].cause(error)
        if isinstance(error, StageLimitError):
            # The stage ends now, so the next observation could not see it.
            await self._judge(Observation(time.monotonic(), broken_limit=Resource(error.resource)))
        return error

    async def _must_end(self, fault: Exception) -> bool:
        """Whether a failure ends the recording: a lasting one before its first take, or one of too many."""
        if not self._time.has_begun and is_lasting(fault):
            return True
        # In a thread: the note is synced, and a busy disk must not block a running recording.
        if counts_as_break(fault) and await asyncio.to_thread(breaks_too_often, self._spool):
            return True
        await self._listener.broken(sentence_of(fault))
        return False

    async def _abandon_takes(self) -> None:
        """Close the takes of a stage that failed."""
        self._observer = None
        if self._watching is not None:
            # A browser that failed reports no more depths.
            self._watching.cancel()
        await self._close_takes()

    async def _close_takes(self) -> None:
        if self._takes is not None:
            await self._end_take()
            takes, self._takes = self._takes, None
            await takes.close()

    async def _end(self, reason: EndReason) -> Outcome:
        """Close the takes and notify the listener; the file does not wait for the stage's teardown."""
        self._observer = None
        await self._close_takes()
        outcome = Outcome(reason, self._fault, started=self._started)
        await self._listener.ended(outcome)
        return outcome

    async def _open_stage(self, parts: AsyncExitStack) -> Stage | None:
        """Open the stage, or use the warm one; None if a stop command comes first."""
        opened = await self._warm_or_new()
        if opened is None:
            return None
        parts.push_async_callback(opened.close)
        return opened.stage

    async def _warm_or_new(self) -> OpenedStage | None:
        needs = self._plan.stage
        warm, self._warm = self._warm, None
        driver = Driver()
        if warm is not None:
            is_well = await self._is_well(warm.stage)
            if is_well and warm.needs == needs:
                return warm
            if is_well:
                driver = warm.discard_browser()
            self._in_background(warm.close())
        return await open_before(self._stop, needs, driver)

    async def _is_well(self, stage: Stage) -> bool:
        """Whether the browser of a warm stage still answers.

        Otherwise the page would look like one that does not load, and no other stage would be tried.
        """
        well = await stage.browser.is_responsive()
        if not well:
            logger.warning("the browser of the warm stage does not answer; opening another stage")
        return well

    async def _record_on(self, stage: Stage) -> EndReason:
        # A page that is known to have the SDK draws its watermark itself.
        self._drawn = None if self._plan.contract is PageContract.SDK else self._plan.watermark
        self._takes = self._new_takes(stage)
        self._takes.prepare()
        plan = self._plan
        keep_text = self._keep_text if plan.timed_texts else None
        gateway = stage.network.gateway if stage.network else None
        bot = Bot(stage.browser, plan.contract, gateway, plan.hints, plan.secrets, keep_text, self._report)
        self._scene = stage, bot
        joined = await first_of(
            stop=self._stop.wait(),
            joined=self._join(stage, bot),
            stage=_raise(stage.died()),
        )
        if joined == "stop":
            return self._stop_reason
        if bot.uses_sdk and self._drawn is not None:
            await self._takes.close()
            self._drawn = None
            self._takes = self._new_takes(stage)
        self._stage_condemned.clear()
        self._monitor.page_loaded()
        self._observer = Observer(stage, bot, self._takes, self._plan.format, self._spool.directory)
        await self._observer.keep_on_time()
        if not self._pause_wanted:
            await self._start_take(stage)
        return await self._until_it_ends(stage, bot)

    async def _join(self, stage: Stage, bot: Bot) -> None:
        plan = self._plan
        await apply_access(stage.browser, plan.access, plan.url)
        url = stage.network.url_for_recorder(plan.url) if stage.network else plan.url
        await bot.join(url, seconds=plan.join_seconds, tries=plan.join_tries)

    async def _report(self, event: PageEvent) -> None:
        """Report an event of the page, up to a number that does not fill the timeline."""
        self._page_events_reported += 1
        if self._page_events_reported <= MAX_REPORTED:
            logger.warning("%s", event.message)
            await self._listener.page_event(event)

    def _keep_text(self, text: str) -> None:
        self._texts.keep(text, self._take)

    def _new_takes(self, stage: Stage) -> TakeSequence:
        display, sound = stage.display, stage.audio
        source = Source(display.name, display.authority, sound.server, sound.source, self._drawn)
        number = max(self._spool.next_take(), self._plan.elsewhere.next_take)
        # This machine was too slow for the usual settings before.
        journals = self._spool.journals()
        step = journals[-1].step if journals else 0
        return TakeSequence(source, self._spool.directory, self._plan.format, number, step)

    async def _until_it_ends(self, stage: Stage, bot: Bot) -> EndReason:
        assert self._takes is not None
        while True:
            happened = await first_of(
                stop=self._stop.wait(),
                page=bot.over(),
                time=asyncio.sleep(self._time.seconds_left),
                pause=self._pause_changed.wait(),
                stage=_raise(stage.died()),
                watch=self._condemned(),
                encoder=self._takes.died(),
            )
            match happened:
                case "stop":
                    return self._stop_reason
                case "page":
                    return EndReason.PAGE_ENDED
                case "time":
                    return EndReason.MAX_DURATION
                case "pause":
                    await self._pause_or_resume(stage)
                case "encoder":
                    death = await self._takes.died()
                    if self._stop.is_set():
                        return self._stop_reason
                    if isinstance(death, EncoderTooSlowError):
                        # Its take ends now, so the next observation could not see it.
                        await self._judge(Observation(time.monotonic(), encoder_slow=True))
                    if await self._must_end(death):
                        await self._keep_evidence(self._scene, death)
                        self._fault = sentence_of(death)
                        return EndReason.FAULT
                    self._in_background(self._keep_evidence(self._scene, death, screenshot=False))
                    logger.warning("continuing with a new take: %s", death)
                    await self._end_take()
                    await self._start_another_take(stage)

    async def _pause_or_resume(self, stage: Stage) -> None:
        assert self._takes is not None
        self._pause_changed.clear()
        paused = self._take is None
        if self._pause_wanted:
            if not paused:
                await self._end_take()
                self._takes.prepare()
            # Also when it was paused already: the command may have come while there was no stage.
            await self._listener.paused()
        elif paused:
            await self._start_take(stage)

    async def _start_another_take(self, stage: Stage) -> None:
        """Continue after a failure of the encoder. If the stage caused it, it is counted already."""
        try:
            await first_of(take=self._start_take(stage), stage=_raise(stage.died()))
        except (StageError, EncoderError) as error:
            raise StageDegradedError(str(error)) from error

    async def _start_take(self, stage: Stage) -> None:
        assert self._takes is not None
        self._takes.prepare()
        take = await self._takes.begin()
        self._take = take
        self._started = True
        self._time.begin_take(take)
        self._take_over = asyncio.Event()
        if self._plan.format.audio_only is None:
            self._watching = asyncio.create_task(self._watch_compositor(stage, self._takes, self._take_over))
        if self._observer is not None:
            await self._observer.keep_on_time()
        await self._listener.recording(take)

    async def _end_take(self) -> None:
        assert self._takes is not None
        ended = self._take
        over_ns = None
        if ended is not None:
            over_ns = self._time.end_take()
            self._take = None
        self._take_over.set()
        await asyncio.gather(self._takes.end(over_ns and over_ns // 1000), self._end_watch())
        if ended is not None:
            await self._listener.take_ended(ended)

    async def _watch_compositor(self, stage: Stage, takes: TakeSequence, over: asyncio.Event) -> None:
        async for depth in trace_depth(stage.browser, self._plan.format.fps, over):
            takes.shown_after(depth.since_us, depth.periods)

    async def _end_watch(self) -> None:
        """Wait for the compositor's last depth, unless its browser hangs."""
        if self._watching is not None:
            await asyncio.wait((self._watching,), timeout=LAST_DEPTH_TIMEOUT)
            self._watching.cancel()
            self._watching = None

    async def _keep_evidence(
        self, scene: tuple[Stage, Bot] | None, fault: Exception, *, screenshot: bool = True
    ) -> None:
        stage, bot = scene or (None, None)
        await collect(self._evidence, stage, bot, self._spool.directory, fault, screenshot=screenshot)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        """Start work that the recording does not wait for."""
        task = asyncio.create_task(work)
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)


async def _raise(death: Awaitable[StageError]) -> None:
    raise await death
