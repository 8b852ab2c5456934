"""The log of a page: console messages, errors and failed requests, without secrets."""

import logging
from collections import deque
from collections.abc import Collection
from datetime import UTC, datetime

from recording_farm.browser_bot.redaction import printable, redact, secret_forms

logger = logging.getLogger(__name__)

MAX_LINE = 500
"""Limits on the length of a line and on the number of logged lines, because a page may print megabytes."""

MAX_LINES = 5_000
MAX_KEPT_LINES = 2_000


class PageLog:
    """Keeps the last lines, and logs the first MAX_LINES."""

    def __init__(self, secrets: Collection[str]) -> None:
        """Redact `secrets` in all lines."""
        self._secrets = secret_forms(secrets)
        self._lines: deque[str] = deque(maxlen=MAX_KEPT_LINES)
        self._left = MAX_LINES

    @property
    def lines(self) -> list[str]:
        """The last 2000 lines, each with its time."""
        return list(self._lines)

    def write(self, line: str) -> None:
        """Add a line, and log it unless the page has printed too many."""
        line = self.clean(line)
        self._lines.append(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}")
        self._left -= 1
        if self._left >= 0:
            logger.info("%s", line)
        elif self._left == -1:
            logger.warning("the page has printed %d lines; further lines are not logged", MAX_LINES)

    def clean(self, text: str) -> str:
        """Redact secrets in a text of the page, and remove its control characters."""
        return printable(redact(text, self._secrets, "…"))

    def start_of(self, text: str) -> str:
        """Redact secrets, then truncate; a truncated secret would not be recognized."""
        return self.clean(text)[:MAX_LINE]
