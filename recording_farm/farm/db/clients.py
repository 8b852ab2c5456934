"""Redis clients with the time-outs the farm wants.

All clients return bytes: RQ stores pickled jobs in the same Redis and cannot live with decoded answers. Where
Sentinels are named (`farm.config.redis_url`), each new connection asks them who the master is; one that was
made a replica refuses to write, and is left for the new master. The name of a single server may mean another
machine after a fail-over, while the old one keeps its connections and is a replica: a connection on which a
write is refused for that reason is closed, and the command is tried again on a new one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from recording_farm.farm.config.redis_url import Sentinels, parse_redis_address

_TIMEOUT = 5.0
"""Seconds one command may take before it counts as lost."""

_CONNECT_TIMEOUT = 2.0
_RETRIES = 3
_RETRIED_ERRORS: Final = (redis.ReadOnlyError,)
"""What is tried again on a new connection, besides connections that break; after the retries it is raised."""

_SENTINEL_TIMEOUT: Final = 1.0
"""Seconds in which a Sentinel must answer; then the next one is asked."""

_CONNECTIONS = 2000
"""Each that waits has a connection of its own; redis-py's own limit of 100 turns requests into errors."""


def connect(address: str, retries: int = _RETRIES) -> redis.Redis:
    """A client for `address` (see `farm.config.redis_url`); it connects with the first command.

    A command that finds Redis away is tried again `retries` times within half a second (Redis restarting, an
    idle connection closed), then `redis.ConnectionError` or `redis.TimeoutError` is raised. What Redis
    answers and refuses is a `redis.ResponseError`; `farm.db.faults` says which fault that is.
    """
    options: dict[str, Any] = {
        "socket_timeout": _TIMEOUT,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "retry": Retry(ExponentialBackoff(cap=0.3, base=0.05), retries),
        "retry_on_error": list(_RETRIED_ERRORS),
    }
    sentinels = parse_redis_address(address)
    if sentinels is None:
        return redis.Redis.from_url(address, **options)
    asked = _Sentinel(  # type: ignore[no-untyped-call]
        sentinels.hosts, sentinel_kwargs=_for_sentinels(sentinels, Retry(NoBackoff(), 0))
    )
    return asked.master_for(  # type: ignore[no-any-return,no-untyped-call]
        sentinels.master,
        connection_class=_MasterTlsConnection if sentinels.tls else _MasterConnection,
        **{**sentinels.servers, **options},
    )


def connect_async(address: str) -> redis.asyncio.Redis:
    """The same for asyncio; used where something waits (orders, changes) and where every request goes by.

    Its commands have no time-out of their own: put `in_time` or `asyncio.timeout` around them.
    """
    options: dict[str, Any] = {
        # With a time-out redis-py sends commands through `asyncio.wait_for`, which before Python 3.12 loses a
        # cancellation that comes at the wrong moment (tried: one in a few dozen). The task then never ends.
        "socket_timeout": None,
        "max_connections": _CONNECTIONS,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "retry": AsyncRetry(ExponentialBackoff(cap=0.3, base=0.05), _RETRIES),
        "retry_on_error": list(_RETRIED_ERRORS),
    }
    sentinels = parse_redis_address(address)
    if sentinels is None:
        return redis.asyncio.Redis.from_url(address, **options)
    asked = _AsyncSentinel(  # type: ignore[no-untyped-call]
        # These have a time-out all the same: one that hangs would keep every new connection from being made.
        sentinels.hosts,
        sentinel_kwargs=_for_sentinels(sentinels, AsyncRetry(NoBackoff(), 0)),
    )
    return asked.master_for(  # type: ignore[no-any-return]
        sentinels.master,
        connection_pool_class=_SentinelPool,
        ssl=sentinels.tls,
        **{**sentinels.servers, **options},
    )


def _for_sentinels(sentinels: Sentinels, retry: Retry | AsyncRetry) -> dict[str, Any]:
    return {
        "socket_timeout": _SENTINEL_TIMEOUT,
        "socket_connect_timeout": _SENTINEL_TIMEOUT,
        "retry": retry,
        "ssl": sentinels.tls,
        **sentinels.credentials,
    }


class _MasterConnection(redis.sentinel.SentinelManagedConnection):
    """A connection to the master, that is closed when the reading of an answer was broken off.

    redis-py's own (8.1) stays open then, other than those to a single server: by a time-out, or by the signal
    that tells RQ's worker to end. The answer, come late, would be taken for that of the next command.
    """

    def read_response(
        self, disable_decoding: bool = False, *, disconnect_on_error: bool | None = True, **options: Any
    ) -> Any:
        return super().read_response(disable_decoding, disconnect_on_error=disconnect_on_error, **options)


class _MasterTlsConnection(_MasterConnection, redis.sentinel.SentinelManagedSSLConnection):
    """The same by TLS."""


class _Sentinel(redis.sentinel.Sentinel):
    """redis-py's, but for what it says: that has a page on each Sentinel."""

    def discover_master(self, service_name: str) -> Any:
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except redis.sentinel.MasterNotFoundError:
            raise redis.sentinel.MasterNotFoundError(_no_master(service_name)) from None


class _AsyncSentinel(redis.asyncio.sentinel.Sentinel):
    """The same for asyncio."""

    async def discover_master(self, service_name: str) -> Any:
        try:
            return await super().discover_master(service_name)
        except redis.asyncio.sentinel.MasterNotFoundError:
            raise redis.asyncio.sentinel.MasterNotFoundError(_no_master(service_name)) from None


def _no_master(name: str) -> str:
    return f"no Sentinel knows a master called {name} that is up"


class _SentinelPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """Connections to the master. Whoever closes them has no other way to close those to the Sentinels."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """A time-out for commands of `connect_async` that Redis answers at once. Raises redis.TimeoutError."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            yield
    except TimeoutError as error:
        raise redis.TimeoutError(f"no answer within {_TIMEOUT} s") from error
