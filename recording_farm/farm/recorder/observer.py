"""The observer: takes one observation of a recording, of everything that answers in time."""

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Final, TypeVar

from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.stage import autogroup
from recording_farm.browser_bot.stage.pixels import grab_rows, is_black, is_blank
from recording_farm.browser_bot.stage.stage import Stage
from recording_farm.encoder.formats import Format
from recording_farm.encoder.takes.sequence import TakeSequence
from recording_farm.farm.host.realtime import RealTime
from recording_farm.farm.recorder.monitor import Observation
from recording_farm.farm.spool.disk_space import space_for_cuts

logger = logging.getLogger(__name__)

OBSERVATION_TIMEOUT: Final = 1.0
"""A part that does not answer in time stays unknown here: heartbeats find what hangs."""

MEMORY_INTERVAL: Final = 10.0
"""Reading the memory takes 13 to 27 ms of CPU (measured), so it is read less often."""

T = TypeVar("T")


def observe_disk(spool: Path) -> Observation:
    """An observation while there is no stage: of the spool's disk."""
    return Observation(time.monotonic(), free_disk=_free(spool), space_for_cuts=space_for_cuts(spool.parent))


class Observer:
    """Observes one stage, from when its page is joined."""

    def __init__(self, stage: Stage, bot: Bot, takes: TakeSequence, fmt: Format, spool: Path) -> None:
        """Observe `stage` and its page, recorded as `takes` in `fmt`, and the disk of `spool`."""
        self._stage = stage
        self._bot = bot
        self._takes = takes
        self._format = fmt
        self._spool = spool
        self._real_time = RealTime(stage)
        self._rows: bytes | None = None
        # Windows shown while the page was joined, such as the list of a field, are in no take.
        stage.windows.pop_found()
        # Not at once: the first take starts now, at a moment that must be met to a few milliseconds.
        self._memory_read_at = time.monotonic()

    async def observe(self) -> Observation:
        """Observe everything. Never raises, and takes a second at most."""
        rows, sound, memory, _ = await asyncio.gather(
            _in_time(self._picture()),
            _in_time(self._stage.audio.inputs()),
            _in_time(self._memory()),
            self.keep_on_time(),
        )
        before, self._rows = self._rows, rows
        covered = bool(self._stage.windows.shown)
        return Observation(
            time.monotonic(),
            free_disk=_free(self._spool),
            space_for_cuts=space_for_cuts(self._spool.parent),
            memory=memory,
            page=self._bot.page_state,
            sound=None if sound is None else tuple(sound),
            still=None if rows is None or before is None else rows == before,
            black=None if rows is None else is_black(rows),
            blank=None if rows is None else is_blank(rows),
            encoder_slow=self._takes.is_slow,
            foreign_window=bool(self._stage.windows.pop_found()) or covered,
            covered=covered,
        )

    async def keep_on_time(self) -> None:
        """Give processor time to the threads that need it; with each observation, or on request."""
        await _in_time(asyncio.to_thread(self._share_processors))

    def _share_processors(self) -> None:
        autogroup.raise_session()
        autogroup.lower_session_of(self._stage.browser.pid)
        self._real_time.look(self._takes.pid)

    async def move_audio_back(self) -> None:
        """Move streams that play to another sink to the recorded one, if PulseAudio answers."""
        await _in_time(self._stage.audio.move_back())

    async def _picture(self) -> bytes | None:
        if self._format.audio_only is not None:
            return None
        return await grab_rows(self._stage.display, self._format.width, self._format.height)

    async def _memory(self) -> int | None:
        if time.monotonic() - self._memory_read_at < MEMORY_INTERVAL:
            return None
        self._memory_read_at = time.monotonic()
        return await asyncio.to_thread(self._stage.memory)


def _free(spool: Path) -> int | None:
    try:
        return shutil.disk_usage(spool).free
    except OSError as error:
        logger.debug("cannot read the free disk: %s", error)
        return None


async def _in_time(answer: Awaitable[T]) -> T | None:
    try:
        async with asyncio.timeout(OBSERVATION_TIMEOUT):
            return await answer
    except (OSError, TimeoutError) as error:
        logger.debug("a part of the stage could not be observed: %r", error)
        return None
