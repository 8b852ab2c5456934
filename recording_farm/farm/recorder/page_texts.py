"""The texts that the page wants in the file, kept in the spool with their times in the takes."""

import logging
import time
from contextlib import suppress
from typing import Final

from recording_farm.browser_bot.page.recording_sdk import TEXTS_OVER
from recording_farm.encoder.journal import Journal
from recording_farm.encoder.live.hls import TimedText, timed_text_line
from recording_farm.farm.spool.spool import Spool

logger = logging.getLogger(__name__)

_MAX_BYTES: Final = 64 << 20
"""Of all texts of a recording."""


class PageTexts:
    """Keeps what the page says, as long as it is recorded and not too much."""

    def __init__(self, spool: Spool) -> None:
        """Append to what another recorder has kept in `spool`."""
        self._spool = spool
        self._bytes = spool.texts.stat().st_size if spool.texts.exists() else 0

    def keep(self, text: str, take: Journal | None) -> None:
        """Keep a text that was said now; without a take nothing is recorded. Never raises."""
        if text == TEXTS_OVER:
            with suppress(OSError):
                self._spool.texts_over.touch()
        if take is None or self._spool.texts_over.exists():
            return
        line = timed_text_line(TimedText(take.number, take.time_of(time.monotonic_ns() // 1000), text))
        self._bytes += len(line)
        if self._bytes > _MAX_BYTES:
            logger.warning("the page has said too much; a text is left out")
            return
        try:
            with self._spool.texts.open("a") as texts:
                texts.write(line)
        except OSError as error:
            # A full disk ends the recording elsewhere, and properly.
            logger.warning("a text of the page cannot be kept: %s", error)
