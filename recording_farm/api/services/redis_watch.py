"""What keeps the farm from working with Redis, found out by writing to it: at most once a second."""

import asyncio
import logging
import time
from typing import Final

import redis.asyncio

from recording_farm.farm.db.faults import RedisFault, check_redis_async

logger: Final = logging.getLogger(__name__)

_BELIEVED_SECONDS: Final = 1.0
"""How long what was found is believed; anybody may ask."""


class RedisWatch:
    """Knows what is wrong with Redis, from a look that is not old."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """`client` comes from `farm.db.clients.connect_async`. Nothing is asked yet."""
        self._redis = client
        self._looked = float("-inf")
        self._fault: RedisFault | None = None
        self._looking = asyncio.Lock()

    async def fault(self) -> RedisFault | None:
        """What keeps the farm from working with Redis, None if nothing does; put a time-out around it."""
        async with self._looking:
            if time.monotonic() - self._looked > _BELIEVED_SECONDS:
                # Were it to hang, nobody else would ask before the time is up again.
                before, self._looked, self._fault = self._fault, time.monotonic(), RedisFault.AWAY
                self._fault = await check_redis_async(self._redis)
                if self._fault is not None and self._fault is not before:
                    logger.error("not ready: Redis %s", self._fault.sentence)
            return self._fault
