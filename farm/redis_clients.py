"""Redis clients with the time-outs the farm wants.

Both clients return bytes: RQ stores pickled jobs in the same Redis and cannot live with decoded answers.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

_TIMEOUT = 5.0
"""Seconds one command may take before it counts as lost."""

_CONNECT_TIMEOUT = 2.0
_RETRIES = 3

_CONNECTIONS = 2000
"""Each that waits has a connection of its own; redis-py's own limit of 100 turns requests into errors."""


def connect(address: str, retries: int = _RETRIES) -> redis.Redis:
    """A client for `address` (`redis://`, `rediss://` or `unix://`); it connects with the first command.

    A command that finds Redis away is tried again `retries` times within half a second (Redis restarting, an
    idle connection closed), then `redis.ConnectionError` or `redis.TimeoutError` is raised.
    """
    return redis.Redis.from_url(
        address,
        socket_timeout=_TIMEOUT,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        retry=Retry(ExponentialBackoff(cap=0.3, base=0.05), retries),
    )


def connect_async(address: str) -> redis.asyncio.Redis:
    """The same for asyncio; used where something waits (orders, changes) and where every request goes by.

    Its commands have no time-out of their own: put `in_time` or `asyncio.timeout` around them.
    """
    return redis.asyncio.Redis.from_url(
        address,
        # With a time-out redis-py sends commands through `asyncio.wait_for`, which before Python 3.12 loses a
        # cancellation that comes at the wrong moment (tried: one in a few dozen). The task then never ends.
        socket_timeout=None,
        max_connections=_CONNECTIONS,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        retry=AsyncRetry(ExponentialBackoff(cap=0.3, base=0.05), _RETRIES),
    )


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """A time-out for commands of `connect_async` that Redis answers at once. Raises redis.TimeoutError."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            yield
    except TimeoutError as error:
        raise redis.TimeoutError(f"no answer within {_TIMEOUT} s") from error
