"""Checks Redis for faults by writing to it, at most once a second."""

import asyncio
import logging
import time
from typing import Final

import redis.asyncio

from recording_farm.farm.db.faults import RedisFault, check_redis_async

logger: Final = logging.getLogger(__name__)

_BELIEVED_SECONDS: Final = 1.0
"""How long a result is cached: the endpoint needs no credentials."""


class RedisWatch:
    """The current fault of Redis, with a cached result."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """`client` comes from `farm.db.clients.connect_async`."""
        self._redis = client
        self._looked = float("-inf")
        self._fault: RedisFault | None = None
        self._looking = asyncio.Lock()

    async def fault(self) -> RedisFault | None:
        """The fault of Redis, None if it works; put a time-out around it."""
        async with self._looking:
            if time.monotonic() - self._looked > _BELIEVED_SECONDS:
                # Set first: if the check hangs, other requests must not start one before it expires.
                before, self._looked, self._fault = self._fault, time.monotonic(), RedisFault.AWAY
                self._fault = await check_redis_async(self._redis)
                if self._fault is not None and self._fault is not before:
                    logger.error("not ready: Redis %s", self._fault.sentence)
            return self._fault
