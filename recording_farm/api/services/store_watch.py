"""Checks that the store accepts files by writing to it, rarely and one check at a time."""

import asyncio
import logging
import time
from typing import Final

from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import Store

logger: Final = logging.getLogger(__name__)

_BELIEVED_SECONDS: Final = 30.0
"""How long a result is cached."""


class StoreWatch:
    """Whether the store accepts files, with a cached result."""

    def __init__(self, store: Store) -> None:
        """The first call of `is_ready` checks."""
        self._store = store
        self._tried = float("-inf")
        self._ready = False
        self._trying = asyncio.Lock()

    async def is_ready(self) -> bool:
        """Whether the store accepts files; put a time-out around it."""
        async with self._trying:
            if time.monotonic() - self._tried > _BELIEVED_SECONDS:
                # Set first: if the check hangs, other requests must not start one before it expires.
                self._tried, self._ready = time.monotonic(), False
                # Not Starlette's threads: these ignore cancellation by a time-out.
                self._ready = await asyncio.to_thread(self._try)
            return self._ready

    def _try(self) -> bool:
        try:
            self._store.check()
        except (StorageError, OSError) as error:
            logger.warning("the store does not accept files: %s", error)
            return False
        return True
