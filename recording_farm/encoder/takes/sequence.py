"""The sequence of takes of one recording: start, resume and restart each begin a new take."""

import asyncio
import logging
from pathlib import Path

from recording_farm.encoder.errors import ClockJumpedError, EncoderError, EncoderTooSlowError
from recording_farm.encoder.formats import Format
from recording_farm.encoder.journal import Journal
from recording_farm.encoder.takes.clock import safe_window
from recording_farm.encoder.takes.command import Source, TakeFiles
from recording_farm.encoder.takes.take import Take

logger = logging.getLogger(__name__)

PHASE_TRIES = 4


class TakeSequence:
    """Begins and ends takes one after the other, and keeps the next one loaded so that it begins at once."""

    def __init__(self, source: Source, directory: Path, fmt: Format, first: int = 0, step: int = 0) -> None:
        """Record `source` into `directory`, counting takes from `first`, `step` steps cheaper than usual."""
        self._source = source
        self._directory = directory
        self._format = fmt
        self._number = first
        self._step = step
        self._loading: asyncio.Task[Take] | None = None
        self._current: Take | None = None
        self._latest: Take | None = None
        self._frames_before = 0

    @property
    def frames(self) -> int:
        """Frames encoded so far in all takes, as ffmpeg says."""
        return self._frames_before + (self._current.progress.frames if self._current else 0)

    @property
    def speed(self) -> float:
        """How fast the running take encodes; 1 is real time, 0 is not known."""
        return self._current.speed if self._current else 0.0

    @property
    def is_slow(self) -> bool | None:
        """Whether the running take does not keep up; None if none runs, or that is not known."""
        return self._current.is_slow if self._current else None

    @property
    def pid(self) -> int | None:
        """The process of the running take; None while none runs."""
        return self._current.pid if self._current else None

    @property
    def bytes(self) -> int:
        """Bytes in all takes so far."""
        media = self._directory.glob(f"take-*{self._format.take_suffix}")
        return sum(file.stat().st_size for file in media)

    def prepare(self) -> None:
        """Load the next take in the background. Does nothing if one is loaded already."""
        if self._loading is None:
            self._loading = self._load()

    def _load(self) -> asyncio.Task[Take]:
        files = TakeFiles(self._directory, self._number, self._format.take_suffix)
        self._number += 1
        return asyncio.create_task(Take.load(self._source, files, self._format, self._step))

    async def begin(self) -> Journal:
        """Begin the next take, in phase if it has a picture, and return how it began.

        A machine that is too busy to hit the window in a few tries records out of phase, which may double
        and lose frames, rather than not at all. Raises EncoderError when ffmpeg fails.
        """
        window = safe_window(self._format.period_us)
        for attempt in range(1, PHASE_TRIES + 1):
            take = await self._loaded()
            try:
                journal = await take.begin(self.prepare)
            except ClockJumpedError as error:
                await self._discard(take)
                if attempt == PHASE_TRIES:
                    raise
                logger.info("%s; trying again", error)
                continue
            except BaseException:
                await take.kill()
                raise
            number, distance = journal.number, journal.phase_us
            if self._format.audio_only is not None or distance in window:
                break
            if attempt == PHASE_TRIES:
                logger.warning("take %d is out of phase (%d µs): frames may be lost", number, distance)
                break
            logger.info("take %d began at phase %d µs; trying again", number, distance)
            await self._discard(take)
        self._current = self._latest = take
        return journal

    async def _loaded(self) -> Take:
        """The take in reserve, or another if that cannot be used any more."""
        if self._loading is not None:
            reserve, self._loading = self._loading, None
            try:
                take = await reserve
            except EncoderError as error:
                logger.info("the take in reserve had died: %s", error)
            else:
                if take.step == self._step and take.can_begin():
                    return take
                await self._discard(take)
        return await self._load()

    async def _discard(self, take: Take) -> None:
        await take.kill()
        take.files.remove()
        # It was not announced, so the next take gets its number, unless that take is loading already.
        if self._loading is None:
            self._number = take.files.number

    def shown_after(self, since_us: int, periods: int) -> None:
        """Note how late frames are shown, in the take that began last; see `Take.shown_after`."""
        if self._latest is not None:
            self._latest.shown_after(since_us, periods)

    async def died(self) -> EncoderError:
        """Wait until the running take dies, hangs or is too slow, or the clock jumps; for ever if none runs.

        The next take is being loaded then, and encodes in a cheaper way if this one was too slow.
        """
        if self._current is None:
            await asyncio.Event().wait()
            raise AssertionError
        take = self._current
        error = await take.died()
        if isinstance(error, EncoderTooSlowError):
            self._step = take.step + 1
        self.prepare()
        return error

    async def end(self, at_us: int | None = None) -> None:
        """End the running take properly, as it was at `at_us`; see `Take.stop`. Does nothing if none runs."""
        if self._current is not None:
            take, self._current = self._current, None
            await take.stop(at_us)
            self._frames_before += take.progress.frames

    async def close(self) -> None:
        """End the running take and drop the loaded one."""
        await self.end()
        if self._loading is not None:
            loading, self._loading = self._loading, None
            try:
                take = await loading
            except EncoderError as error:
                logger.debug("the take in reserve had died: %s", error)
            else:
                await take.kill()
                take.files.remove()
