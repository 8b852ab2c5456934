"""The takes of one recording: start, resume after a pause and restart after a crash each begin a new one."""

import asyncio
import logging
from pathlib import Path

from encoder.clock import safe_window
from encoder.command import Source, TakeFiles
from encoder.errors import EncoderError
from encoder.formats import Format
from encoder.journal import Journal
from encoder.take import Take

logger = logging.getLogger(__name__)

PHASE_TRIES = 4


class Takes:
    """Begins and ends takes one after the other, and keeps the next one loaded so that it begins at once."""

    def __init__(self, source: Source, directory: Path, fmt: Format, first: int = 0) -> None:
        """Record `source` into `directory`, counting takes from `first`."""
        self._source = source
        self._directory = directory
        self._format = fmt
        self._number = first
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
    def bytes(self) -> int:
        """Bytes in all takes so far."""
        media = self._directory.glob(f"take-*{self._format.take_suffix}")
        return sum(file.stat().st_size for file in media)

    def prepare(self) -> None:
        """Load the next take in the background. Does nothing if one is loaded already."""
        if self._loading is None:
            files = TakeFiles(self._directory, self._number, self._format.take_suffix)
            self._number += 1
            self._loading = asyncio.create_task(Take.load(self._source, files, self._format))

    async def begin(self) -> Journal:
        """Begin the next take, in phase if it has a picture, and return how it began.

        A machine that is too busy to hit the window in a few tries records out of phase, which may double
        and lose frames, rather than not at all. Raises EncoderError when ffmpeg fails.
        """
        window = safe_window(self._format.period_us)
        for attempt in range(1, PHASE_TRIES + 1):
            self.prepare()
            assert self._loading is not None
            loading, self._loading = self._loading, None
            take = await loading
            try:
                journal = await take.begin()
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
            await take.kill()
            take.files.remove()
            # Nobody has heard of it: the next one has its number.
            self._number = number
        self._current = self._latest = take
        return journal

    def shown_after(self, since_us: int, periods: int) -> None:
        """Note how late frames are shown, in the take that began last; see `Take.shown_after`."""
        if self._latest is not None:
            self._latest.shown_after(since_us, periods)

    async def died(self) -> EncoderError:
        """Wait until the running take dies by itself; for ever if none runs."""
        if self._current is None:
            await asyncio.Event().wait()
            raise AssertionError
        return await self._current.died()

    async def end(self) -> None:
        """End the running take properly. Does nothing if none runs."""
        if self._current is not None:
            take, self._current = self._current, None
            await take.stop()
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
