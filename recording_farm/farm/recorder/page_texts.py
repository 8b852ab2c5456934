"""Texts that the page sends for the file (ID3), kept in the spool with their times in the takes."""

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
"""Limit for all texts of a recording."""


class PageTexts:
    """Keeps the texts of the page while a take runs, up to a limit."""

    def __init__(self, spool: Spool) -> None:
        """Append to the texts that another recorder kept in `spool`."""
        self._spool = spool
        self._bytes = spool.texts.stat().st_size if spool.texts.exists() else 0

    def keep(self, text: str, take: Journal | None) -> None:
        """Keep a text that was sent now; without a take it is dropped. Never raises."""
        if text == TEXTS_OVER:
            with suppress(OSError):
                self._spool.texts_over.touch()
        if take is None or self._spool.texts_over.exists():
            return
        line = timed_text_line(TimedText(take.number, take.time_of(time.monotonic_ns() // 1000), text))
        self._bytes += len(line)
        if self._bytes > _MAX_BYTES:
            logger.warning("the page has sent more than %d MiB of texts; dropping one", _MAX_BYTES >> 20)
            return
        try:
            with self._spool.texts.open("a") as texts:
                texts.write(line)
        except OSError as error:
            # The monitor ends the recording properly when the disk is full.
            logger.warning("cannot keep a text of the page: %s", error)
