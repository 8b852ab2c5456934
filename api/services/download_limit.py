"""Turns at something that costs the farm much for as long as a client likes: a few at a time."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from api.http_errors import TooManyDownloadsError


class Turns:
    """Who is at it now, in this process. For one event loop."""

    def __init__(self, most: int, most_of_one: int) -> None:
        """Let so many be at it at the same time, and of one organisation so many."""
        self._most = most
        self._most_of_one = most_of_one
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, organization_id: str) -> Iterator[None]:
        """Take a turn while the block runs. Raises TooManyDownloadsError when there is none left."""
        if self._taken.total() >= self._most or self._taken[organization_id] >= self._most_of_one:
            raise TooManyDownloadsError
        self._taken[organization_id] += 1
        try:
            yield
        finally:
            self._taken[organization_id] -= 1
