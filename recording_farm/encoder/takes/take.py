"""A take: one uninterrupted run of ffmpeg, from a loaded process behind its gates to a finished file."""

import asyncio
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from recording_farm.encoder.errors import (
    ClockJumpedError,
    EncoderError,
    EncoderHungError,
    EncoderTooSlowError,
)
from recording_farm.encoder.formats import Format
from recording_farm.encoder.journal import Journal, Lag, write_journal
from recording_farm.encoder.takes.clock import monotonic_of_wall, phase, safe_window, wait_us, wall_ahead_us
from recording_farm.encoder.takes.command import Source, TakeFiles, cheapest_step, take_arguments
from recording_farm.encoder.takes.gate import Gate
from recording_farm.encoder.takes.progress import Progress, read_progress
from recording_farm.encoder.takes.watchdog import JUMP_US, SAMPLE_SECONDS, Finding, Sample, Watchdog

logger = logging.getLogger(__name__)

LOAD_TIMEOUT = 10.0
BEGIN_TIMEOUT = 5.0
STOP_TIMEOUT = 10.0
SLOW_STOP_TIMEOUT = 1.0
"""The same for an encoder that is too slow: the next take waits for it."""

CATCH_UP_TIMEOUT = 1.0
"""How far behind the encoder may be at the end; lost frames make it look as if it was."""

OPENING_US = 1_000
"""From opening the display's gate to x11grab starting its clock (measured: 0.7 to 2.3 ms). An error here only
moves the phase, and the phase is read back and checked."""

SOUND_UNDER_WAY_US = 100_000
"""How much sound may be on its way to the encoder when ffmpeg first tells of any (measured: up to 40 ms)."""

INPUT = re.compile(r"Input #\d+, (\w+),")
"""ffmpeg logs each input once it is open: `Input #3, x11grab, from ':7':`, then `Duration: N/A, start:
…`."""

OUTPUT = re.compile(r"Output #0,")
START = re.compile(r"start: (\d+)\.(\d{6})")
SILENCE = re.compile(r"silence_duration: (\d+)(?:\.(\d{1,6}))?")
"""silencedetect tells each silence when it is over, or when ffmpeg ends."""

LAST_WORDS = 8

T = TypeVar("T")


class Take:
    """One run of ffmpeg. The order is `load`, `begin`, `stop`; it can die at any time."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        gates: Sequence[Gate],
        files: TakeFiles,
        fmt: Format,
        epoch: int,
        step: int,
    ) -> None:
        """Wrap a process that `load` has started behind `gates`: the sound's, and the display's if any."""
        self.files = files
        self.step = step
        self.is_slow: bool | None = None
        """Whether it does not keep up; None as long as that is not known."""
        self.progress = Progress()
        self._process = process
        self._format = fmt
        self._epoch = epoch
        self._gates = gates
        # Its first timestamp is the start of the take.
        self._device = "x11grab" if fmt.audio_only is None else "pulse"
        self._capturing: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._writing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._journal: Journal | None = None
        self._watching: asyncio.Task[None] | None = None
        self._fault: EncoderError | None = None
        self._depth_known = False
        self._progress_us = 0
        self._level_us = 0
        self._silent_us = 0
        self._sampled_us = -1
        self._progressed = asyncio.Event()
        self._words: list[str] = []
        self._readers = (
            asyncio.create_task(self._read_words()),
            asyncio.create_task(self._read_progress()),
        )

    @classmethod
    async def load(cls, source: Source, files: TakeFiles, fmt: Format, step: int = 0) -> "Take":
        """Start ffmpeg and wait until it stands before its first gate: loaded, and using nothing but memory.

        It will encode `step` steps cheaper than usual. Raises EncoderError when it does not get there.
        """
        epoch = int(time.time()) - 1
        gates: list[Gate] = []
        try:
            # They must exist before ffmpeg opens them.
            gates.append(Gate(files.sound_gate))
            if fmt.audio_only is None:
                gates.append(Gate(files.display_gate))
            process = await asyncio.create_subprocess_exec(
                # SIGKILL: ffmpeg cannot outlive its parent, however the parent ended.
                *("setpriv", "--pdeathsig", "KILL", "--", "ffmpeg"),
                *take_arguments(source, files, fmt, epoch, step),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(source),
                process_group=0,
            )
        except OSError as error:
            for gate in gates:
                gate.remove()
            raise EncoderError(f"ffmpeg did not start: {error}") from error
        take = cls(process, gates, files, fmt, epoch, step)
        try:
            await take._at_gate(take._gates[0], LOAD_TIMEOUT)
        except BaseException:
            await take.kill()
            raise
        return take

    @property
    def pid(self) -> int:
        """The process of its ffmpeg."""
        return self._process.pid

    def can_begin(self) -> bool:
        """Whether it still stands before its gate, and its clock has not been set back behind its epoch."""
        return self._process.returncode is None and self._epoch <= time.time()

    async def begin(self, faltering: Callable[[], None] = lambda: None) -> Journal:
        """Open the sound, then the display at the moment that puts its grabs into the safe window.

        A take without picture begins with its sound and has no phase. From then on it is watched; `faltering`
        is called when it may be about to hang. Raises EncoderError when ffmpeg dies on the way or does not
        capture, ClockJumpedError when the clock is set meanwhile. The caller looks at the phase.
        """
        ahead = wall_ahead_us()
        sound_gate, *display_gates = self._gates
        sound_gate.open()
        for display_gate in display_gates:
            await self._open_in_phase(display_gate)
        wall = await self._unless_it_dies(self._capturing, BEGIN_TIMEOUT)
        # An early stop leaves a file only if the encoder has received frames.
        await self._unless_it_dies(self._writing, BEGIN_TIMEOUT)
        if abs(wall_ahead_us() - ahead) > JUMP_US:
            raise ClockJumpedError(f"the clock was set while take {self.files.number} began")
        journal = Journal(
            *(self.files.number, self._epoch, wall, monotonic_of_wall(wall)),
            phase_us=0,
            step=self.step,
            stretch=self._format.stretch.as_integer_ratio(),
        )
        if self._format.audio_only is None:
            phase_us = phase(journal.monotonic_us, self._format.period_us)
            journal = replace(journal, phase_us=phase_us, lags=(Lag(0, phase_us),))
        self._note(journal)
        self._watching = asyncio.create_task(self._watch(journal, faltering))
        return journal

    async def _open_in_phase(self, display_gate: Gate) -> None:
        await self._at_gate(display_gate, BEGIN_TIMEOUT)
        period = self._format.period_us
        aim = safe_window(period).aim
        await asyncio.sleep(wait_us(time.monotonic_ns() // 1000, OPENING_US, aim, period) / 1e6)
        display_gate.open()

    def shown_after(self, since_us: int, periods: int) -> None:
        """Note that from `since_us` on, in µs of CLOCK_MONOTONIC, frames are shown so late.

        Without a note they are taken to be shown one period after their time, as a page can reckon. The first
        note is taken to hold from the beginning of the take.
        """
        journal = self._journal
        assert journal is not None
        lag = Lag(journal.time_of(since_us), journal.phase_us + (periods - 1) * self._format.period_us)
        kept = journal.lags if self._depth_known else ()
        self._depth_known = True
        self._note(replace(journal, lags=(*kept, lag)))

    @property
    def speed(self) -> float:
        """How much of the time since the take began is encoded; 1 is all of it, 0 is not known.

        ffmpeg's own figure counts the time that it stood before its gates.
        """
        if self._journal is None:
            return 0.0
        elapsed = self._progress_us - self._journal.monotonic_us
        return self._encoded_us(self._journal) / elapsed if elapsed > 0 else 0.0

    def _encoded_us(self, journal: Journal) -> int:
        """How much of the take is encoded, in µs.

        Of sound alone ffmpeg tells only how much since it first told; until then it is taken to have kept up.
        """
        if self._format.audio_only is None:
            return self.progress.frames * self._format.period_us
        return self._level_us - journal.monotonic_us + self.progress.out_us if self.progress.out_us else 0

    async def stop(self, at_us: int | None = None) -> None:
        """End the take properly, with all frames up to `at_us` (µs of CLOCK_MONOTONIC), or to this moment.

        A take that does not end in time is killed; its file is then whole but for its very end. So is one of
        which nothing good can come any more, at once.
        """
        match self._fault:
            case EncoderHungError() | ClockJumpedError():
                pass
            case EncoderTooSlowError():
                await self._interrupt(SLOW_STOP_TIMEOUT)
            case _:
                if self._journal is not None:
                    await self._catch_up(self._journal, at_us or time.monotonic_ns() // 1000)
                await self._interrupt(STOP_TIMEOUT)
        await self.kill()
        if self._journal is not None:
            self._note(replace(self._journal, silent_us=self._silent_us, speed=round(self.speed, 3)))

    async def _interrupt(self, timeout: float) -> None:
        if self._process.returncode is not None:
            return
        self._signal(signal.SIGINT)
        await self._end_or_fault(timeout)
        if self._process.returncode is None:
            logger.warning("take %d did not stop in time and is killed", self.files.number)

    async def kill(self) -> None:
        """End ffmpeg at once, and clean up behind it."""
        if self._watching is not None:
            self._watching.cancel()
        self._signal(signal.SIGKILL)
        await self._process.wait()
        for gate in self._gates:
            gate.remove()
        await asyncio.gather(*self._readers)
        self._capturing.cancel()
        self._writing.cancel()

    async def died(self) -> EncoderError:
        """Wait until ffmpeg ends by itself or the watchdog finds a fault, and return the error."""
        if self._fault is None:
            await self._end_or_fault(timeout=None)
        if self._fault is not None:
            return self._fault
        code = await self._process.wait()
        await asyncio.wait(self._readers, timeout=1)
        words = "\n".join(self._words) or "without a word"
        return EncoderError(f"ffmpeg ended with {code} in take {self.files.number}: {words}")

    async def _end_or_fault(self, timeout: float | None) -> None:
        """Wait until ffmpeg has ended or the watchdog finds a fault, if it has not found one before."""
        ending = asyncio.create_task(self._process.wait())
        try:
            if self._watching is None or self._fault is not None:
                await asyncio.wait((ending,), timeout=timeout)
            else:
                waiting = (ending, self._watching)
                await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()

    async def _watch(self, journal: Journal, faltering: Callable[[], None]) -> None:
        """Check the take until there is a fault, and note it."""
        sample = self._sample(journal)
        watchdog = Watchdog(sample)
        finding = None
        while self._process.returncode is None and self._fault is None:
            await asyncio.sleep(SAMPLE_SECONDS)
            before, sample = sample, self._sample(journal)
            before_finding, finding = finding, watchdog.check(sample)
            self.is_slow = watchdog.is_slow
            match finding:
                case Finding.CLOCK_JUMPED:
                    by = (sample.wall_ahead_us - before.wall_ahead_us) / 1e6
                    self._fail(ClockJumpedError(f"the clock was set by {by:+.1f} s"), before.monotonic_us)
                case Finding.HANGING:
                    words = "\n".join(self._words) or "without a word"
                    self._fail(EncoderHungError(f"ffmpeg hangs: {words}"), self._progress_us)
                case Finding.TOO_SLOW if self.step < cheapest_step(self._format):
                    self._fail(
                        EncoderTooSlowError(f"the encoder ran at {watchdog.speed:.2f} of real time"),
                        sample.monotonic_us,
                    )
                case Finding.FALTERING if before_finding is not Finding.FALTERING:
                    faltering()

    def _sample(self, journal: Journal) -> Sample:
        encoded_us = self._encoded_us(journal)
        waits = encoded_us == self._sampled_us and waits_for_processor(self._process.pid)
        self._sampled_us = encoded_us
        return Sample(time.monotonic_ns() // 1000, wall_ahead_us(), encoded_us, waits)

    def _fail(self, fault: EncoderError, until_us: int) -> None:
        """Note a fault, and the time of CLOCK_MONOTONIC up to which the take is good."""
        self._fault = fault
        assert self._journal is not None
        end_us = self._journal.time_of(until_us)
        # It may already have received a signal.
        if self._journal.end_us is None or end_us < self._journal.end_us:
            self._note(replace(self._journal, end_us=end_us))

    async def _catch_up(self, journal: Journal, at_us: int) -> None:
        """Wait until all frames grabbed by `at_us` are encoded, and note the end for the cut.

        At a signal ffmpeg drops the frames that wait for its encoder, so the signal comes a little later; the
        cut leaves out the frames grabbed meanwhile.
        """
        self._note(replace(journal, end_us=journal.time_of(at_us)))
        wanted = at_us - journal.monotonic_us
        if self._format.audio_only is None:
            wanted -= wanted % self._format.period_us
        else:
            wanted += SOUND_UNDER_WAY_US
        with suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_TIMEOUT):
                while self._encoded_us(journal) < wanted and self._process.returncode is None:
                    self._progressed.clear()
                    await self._progressed.wait()

    def _note(self, journal: Journal) -> Journal:
        self._journal = journal
        try:
            write_journal(self.files.journal, journal)
        except OSError as error:
            # A full disk must not end the take: without a journal the file is only less exact.
            logger.error("take %d has no journal: %s", journal.number, error)
        return journal

    async def _at_gate(self, gate: Gate, timeout: float) -> None:
        try:
            await self._unless_it_dies(asyncio.ensure_future(gate.reached()), timeout)
        except OSError as error:
            raise EncoderError(f"ffmpeg's gate cannot be opened: {error}") from error

    async def _unless_it_dies(self, event: asyncio.Future[T], timeout: float) -> T:
        """Wait for an event of ffmpeg's, but not longer than ffmpeg lives."""
        death = asyncio.ensure_future(self.died())
        try:
            await asyncio.wait((event, death), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if event.done():
                return event.result()
            if death.done():
                raise death.result()
            raise EncoderError(f"ffmpeg was not ready after {timeout:.0f} s: {' / '.join(self._words)}")
        finally:
            death.cancel()
            event.cancel()

    def _signal(self, sign: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, sign)

    async def _read_words(self) -> None:
        """Write the messages of ffmpeg to the log; find the start of its clock and of the file."""
        assert self._process.stderr is not None
        told = ""
        async for raw in self._process.stderr:
            # The recording does not need the log; another check ends it properly if the disk is full.
            with suppress(OSError), self.files.log.open("ab", buffering=0) as log:
                log.write(raw)
            line = raw.decode(errors="replace").strip()
            if match := SILENCE.search(line):
                self._silent_us += int(match[1]) * 1_000_000 + int((match[2] or "").ljust(6, "0"))
            self._words = [*self._words[1 - LAST_WORDS :], line]
            if match := INPUT.search(line):
                told = match[1]
            elif told == self._device and not self._capturing.done() and (match := START.search(line)):
                self._capturing.set_result(int(match[1] + match[2]))
            elif OUTPUT.search(line) and not self._writing.done():
                self._writing.set_result(None)

    async def _read_progress(self) -> None:
        assert self._process.stdout is not None
        async for progress in read_progress(self._process.stdout):
            self.progress = progress
            self._progress_us = time.monotonic_ns() // 1000
            if not progress.out_us:
                self._level_us = self._progress_us
            self._progressed.set()
        self._progressed.set()


def waits_for_processor(pid: int) -> bool:
    """Whether a thread of a process runs or would if there was a processor for it (state R of proc(5))."""
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            if task.read_text(errors="replace").rpartition(")")[2].split()[0] == "R":
                return True
    return False


def _environment(source: Source) -> Mapping[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(source.authority.parent),
        "XAUTHORITY": str(source.authority),
    }
