"""Whether the store takes files, found out by writing to it: seldom, and by one request at a time."""

import asyncio
import logging
import time
from typing import Final

from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import Store

logger: Final = logging.getLogger(__name__)

_BELIEVED_SECONDS: Final = 30.0
"""How long what it said is believed."""


class StoreWatch:
    """Knows whether the store takes files, from a try that is not old."""

    def __init__(self, store: Store) -> None:
        """Nothing is tried yet."""
        self._store = store
        self._tried = float("-inf")
        self._ready = False
        self._trying = asyncio.Lock()

    async def is_ready(self) -> bool:
        """Whether the store takes files; put a time-out around it."""
        async with self._trying:
            if time.monotonic() - self._tried > _BELIEVED_SECONDS:
                # Were it to hang, nobody else would try before the time is up again.
                self._tried, self._ready = time.monotonic(), False
                # Not Starlette's threads: these are waited for, whatever the time-out says.
                self._ready = await asyncio.to_thread(self._try)
            return self._ready

    def _try(self) -> bool:
        try:
            self._store.check()
        except (StorageError, OSError) as error:
            logger.warning("the store does not take files: %s", error)
            return False
        return True
