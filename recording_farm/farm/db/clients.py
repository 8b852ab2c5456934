"""Redis clients with the farm's time-outs and retries.

All clients return bytes: RQ keeps compressed jobs in the same Redis and does not support decoded replies.
With Sentinels (`farm.config.redis_url`), each new connection asks them for the master. After a failover the
old master, now a replica, may keep its connections and rejects writes with READONLY: such a connection is
closed, and the command is retried on a new one. The same covers a single server whose host name moved to
another machine.
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
"""Time-out of one command in seconds."""

_CONNECT_TIMEOUT = 2.0
_RETRIES = 3
_RETRIED_ERRORS: Final = (redis.ReadOnlyError,)
"""Errors that are retried on a new connection, besides broken connections; the last one is raised."""

_SENTINEL_TIMEOUT: Final = 1.0
"""Time-out of one Sentinel in seconds; then the next one is asked."""

_CONNECTIONS = 2000
"""Each blocking command occupies a connection; redis-py's default limit of 100 would fail requests."""


def connect(address: str, retries: int = _RETRIES) -> redis.Redis:
    """A client for `address` (see `farm.config.redis_url`); the first command connects.

    A command that cannot reach Redis (a restart, a closed idle connection) is retried `retries` times within
    half a second, then `redis.ConnectionError` or `redis.TimeoutError` is raised. A command that Redis
    rejects raises `redis.ResponseError`; `farm.db.faults` classifies it.
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
    """The same for asyncio: for blocking reads (commands, changes) and for the hot path of requests.

    Its commands have no time-out of their own: put `in_time` or `asyncio.timeout` around them.
    """
    options: dict[str, Any] = {
        # With a time-out, redis-py uses `asyncio.wait_for`, which before Python 3.12 can lose a cancellation
        # (measured: one in a few dozen). The task then never ends.
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
        # Sentinels keep a time-out: one that hangs would block every new connection.
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
    """A connection to the master that is closed when reading a reply is interrupted.

    redis-py (8.1) keeps it open, unlike connections to a single server, after a time-out or the signal that
    stops an RQ worker. The late reply would then be taken for that of the next command.
    """

    def read_response(
        self, disable_decoding: bool = False, *, disconnect_on_error: bool | None = True, **options: Any
    ) -> Any:
        return super().read_response(disable_decoding, disconnect_on_error=disconnect_on_error, **options)


class _MasterTlsConnection(_MasterConnection, redis.sentinel.SentinelManagedSSLConnection):
    """The same by TLS."""


class _Sentinel(redis.sentinel.Sentinel):
    """redis-py's Sentinel with a short error message; its own has pages about each Sentinel."""

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
    """Connections to the master; closing the pool also closes those to the Sentinels."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """A time-out for non-blocking commands of `connect_async`. Raises redis.TimeoutError."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            yield
    except TimeoutError as error:
        raise redis.TimeoutError(f"no answer within {_TIMEOUT} s") from error
