"""The log of a page: console messages, errors and failed requests, without secrets."""

import logging
from collections import deque
from collections.abc import Collection
from datetime import UTC, datetime

from recording_farm.browser_bot.redaction import redact, secret_forms

logger = logging.getLogger(__name__)

MAX_LINE = 500
"""A page is a stranger and may print megabytes: so much of a line is logged, and so many lines."""

MAX_LINES = 5_000
MAX_KEPT_LINES = 2_000


class PageLog:
    """Keeps the last lines, and logs each as long as there are not too many."""

    def __init__(self, secrets: Collection[str]) -> None:
        """`secrets` are left out of all lines."""
        self._secrets = secret_forms(secrets)
        self._lines: deque[str] = deque(maxlen=MAX_KEPT_LINES)
        self._left = MAX_LINES

    @property
    def lines(self) -> list[str]:
        """The last 2000 lines, each with its time."""
        return list(self._lines)

    def write(self, line: str) -> None:
        """Note what the page does; in the log as long as it does not do too much."""
        line = self.clean(line)
        self._lines.append(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}")
        self._left -= 1
        if self._left >= 0:
            logger.info("%s", line)
        elif self._left == -1:
            logger.warning("the page has printed %d lines; no more of them are kept", MAX_LINES)

    def clean(self, text: str) -> str:
        """The text without secrets."""
        return redact(text, self._secrets, "…")

    def start_of(self, text: str) -> str:
        """So much of it as is logged; the secrets go first, as half of one would not be known for one."""
        return self.clean(text)[:MAX_LINE]
