"""A limit for downloads that are expensive while they run."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from recording_farm.api.http_errors import TooManyDownloadsError


class DownloadLimit:
    """Limits the concurrent downloads of this process, in total and per organization. For one event loop."""

    def __init__(self, most: int, most_of_one: int) -> None:
        """Allow `most` downloads at a time, and `most_of_one` to one organization."""
        self._most = most
        self._most_of_one = most_of_one
        self._running: Counter[str] = Counter()

    @contextmanager
    def taken(self, organization_id: str) -> Iterator[None]:
        """Count a download while the block runs. Raises TooManyDownloadsError at the limit."""
        if self._running.total() >= self._most or self._running[organization_id] >= self._most_of_one:
            raise TooManyDownloadsError
        self._running[organization_id] += 1
        try:
            yield
        finally:
            self._running[organization_id] -= 1
