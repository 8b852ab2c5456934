"""Faults of Redis: away, full, read-only, or configured to evict the farm's data.

`fault_of` classifies every error of a command. A Redis that answers reads may still reject writes, so
`check_redis` writes. It also reads the memory policy: any but `noeviction` silently deletes records of
recordings when memory is short.

For an error inside a script, Redis 6.2 has the code in the middle of the message, Redis 7 at its start.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import redis
import redis.asyncio
from redis.exceptions import AuthorizationError

from recording_farm.farm.db.clients import connect, in_time
from recording_farm.farm.errors import RedisEvictsError

logger = logging.getLogger(__name__)

NO_EVICTION: Final = "noeviction"
"""The only `maxmemory-policy` with which Redis never evicts the farm's data."""

_PROBE_KEY: Final = "farm:probe"
_PROBE_SECONDS: Final = 60

_CODE: Final = re.compile(
    r"(?:^|[\s:]-?)"
    r"(OOM|READONLY|UNBLOCKED|NOREPLICAS|MISCONF|MASTERDOWN|CLUSTERDOWN|LOADING|BUSY|NOPERM|NOAUTH)\b"
)
"""Error codes of Redis 6.2 to 8 (`shared` in server.c) about the server, not about a command."""


class RedisFault(StrEnum):
    """A reason why the farm cannot work with Redis."""

    AWAY = "away"
    LOADING = "loading"
    BUSY = "busy"
    FULL = "full"
    READ_ONLY = "read_only"
    NOT_SAVING = "not_saving"
    REFUSED = "refused"
    EVICTS = "evicts"
    FAILED = "failed"

    @property
    def sentence(self) -> str:
        """The fault as a predicate for the subject "Redis", without confidential details."""
        return _SENTENCES[self]


_SENTENCES: Final = {
    RedisFault.AWAY: "cannot be reached",
    RedisFault.LOADING: "is starting and still loads its data",
    RedisFault.BUSY: "is busy with a long script",
    RedisFault.FULL: "is full and rejects writes",
    RedisFault.READ_ONLY: "is read-only and rejects writes",
    RedisFault.NOT_SAVING: "cannot save its data and rejects writes",
    RedisFault.REFUSED: "denies access to the farm's user",
    RedisFault.EVICTS: "may evict records when its memory is short",
    RedisFault.FAILED: "rejected a command",
}

_NOT_IN_SCRIPT: Final = "The user executing the script can't"
"""The message for a forbidden command inside a script, which has no code."""

_BY_CODE: Final = {
    "OOM": RedisFault.FULL,
    "READONLY": RedisFault.READ_ONLY,
    "UNBLOCKED": RedisFault.READ_ONLY,  # a blocking command when Redis became a replica
    "NOREPLICAS": RedisFault.READ_ONLY,
    "MISCONF": RedisFault.NOT_SAVING,
    "MASTERDOWN": RedisFault.AWAY,
    "CLUSTERDOWN": RedisFault.AWAY,
    "LOADING": RedisFault.LOADING,
    "BUSY": RedisFault.BUSY,
    "NOPERM": RedisFault.REFUSED,
    "NOAUTH": RedisFault.REFUSED,
}


def fault_of(error: Exception) -> RedisFault:
    """The fault behind an error of redis-py; an OSError or a time-out counts as away."""
    match error:
        case redis.AuthenticationError() | AuthorizationError() | redis.exceptions.NoPermissionError():
            return RedisFault.REFUSED
        case redis.BusyLoadingError():
            return RedisFault.LOADING
        case redis.exceptions.OutOfMemoryError():
            return RedisFault.FULL
        case redis.ReadOnlyError():
            return RedisFault.READ_ONLY
        case redis.exceptions.ClusterDownError():
            return RedisFault.AWAY
        case redis.ResponseError():
            message = _message(error)
            if _NOT_IN_SCRIPT in message:
                return RedisFault.REFUSED
            found = _CODE.search(message)
            return _BY_CODE[found[1]] if found else RedisFault.FAILED
        case redis.ConnectionError() | redis.TimeoutError() | OSError():
            return RedisFault.AWAY
    return RedisFault.FAILED


def describe(error: Exception) -> str:
    """An error for the log, without its command, whose arguments may be secrets."""
    return f"Redis {fault_of(error).sentence} ({type(error).__name__}: {_message(error)})"


def _message(error: Exception) -> str:
    # redis-py puts a pipeline's command in front: "Command # 1 (HSET …) of pipeline caused error: …"
    return str(error).rpartition(" of pipeline caused error: ")[2]


class Outage:
    """An outage of Redis as one part of the farm sees it: logged once at its start and once at its end."""

    FIRST_PAUSE: Final = 0.1
    MAX_PAUSE: Final = 2.0
    """Limits of the exponential backoff, in seconds."""

    def __init__(self, what: str, level: int = logging.INFO) -> None:
        """`what` is the consequence, such as `recordings cannot be started`.

        All parts of a node see the same outage; one of them logs it with a higher `level`.
        """
        self._what = what
        self._level = level
        self._fault: RedisFault | None = None
        self._pause = self.FIRST_PAUSE

    @property
    def is_ongoing(self) -> bool:
        """Whether the last attempt failed."""
        return self._fault is not None

    def failed(self, error: Exception) -> float:
        """Record a failed attempt; returns the seconds to wait before the next one."""
        fault = fault_of(error)
        if fault is not self._fault:
            logger.log(self._level, "%s, retrying: %s", self._what, describe(error))
        self._fault = fault
        pause, self._pause = self._pause, min(2 * self._pause, self.MAX_PAUSE)
        return pause

    def recovered(self) -> bool:
        """Record a successful attempt; returns whether an outage has ended."""
        was_there = self._fault is not None
        if was_there:
            logger.log(self._level, "Redis works again (before: %s)", self._what)
        self._fault, self._pause = None, self.FIRST_PAUSE
        return was_there


@dataclass(frozen=True)
class RedisMemory:
    """Memory use and limits of a Redis."""

    used: int
    """Bytes that count against `limit`."""
    limit: int
    """`maxmemory` in bytes; 0 means no limit."""
    policy: str | None
    """`maxmemory-policy`; None if this user is not allowed to read it."""
    evicted: int
    """Keys evicted since Redis started."""

    @property
    def evicts(self) -> bool:
        """Whether the policy allows Redis to evict keys once it reaches its limit."""
        return self.policy not in {None, NO_EVICTION}


def memory_of(info: Mapping[str, Any]) -> RedisMemory:
    """Parse the sections `memory` and `stats` of INFO; managed services may omit fields."""
    policy = info.get("maxmemory_policy")
    return RedisMemory(
        used=int(info.get("used_memory", 0)),
        limit=int(info.get("maxmemory", 0)),
        policy=None if policy is None else str(policy),
        evicted=int(info.get("evicted_keys", 0)),
    )


def read_memory(client: redis.Redis) -> RedisMemory | None:
    """Read the memory state; None if this user is not allowed to. Raises redis.RedisError."""
    try:
        # Both sections in one INFO need Redis 7.
        return memory_of({**client.info("memory"), **client.info("stats")})
    except redis.ResponseError as error:
        if fault_of(error) in {RedisFault.REFUSED, RedisFault.FAILED}:
            return None
        raise


def probe(client: redis.Redis) -> None:
    """Write a key that expires in a minute. Raises redis.RedisError when Redis rejects writes."""
    client.set(_PROBE_KEY, 1, ex=_PROBE_SECONDS)


def check_redis(client: redis.Redis) -> RedisFault | None:
    """The current fault of this Redis; None if it works."""
    try:
        probe(client)
        memory = read_memory(client)
    except (redis.RedisError, OSError) as error:
        return fault_of(error)
    return RedisFault.EVICTS if memory is not None and memory.evicts else None


async def check_redis_async(client: redis.asyncio.Redis) -> RedisFault | None:
    """The same for asyncio."""
    try:
        async with in_time():
            # Not in a pipeline, which would keep a connection to a replica (see `farm.db.clients`).
            await client.set(_PROBE_KEY, 1, ex=_PROBE_SECONDS)
        memory = await _read_memory_async(client)
    except (redis.RedisError, OSError) as error:
        return fault_of(error)
    return RedisFault.EVICTS if memory is not None and memory.evicts else None


async def _read_memory_async(client: redis.asyncio.Redis) -> RedisMemory | None:
    try:
        async with in_time():
            return memory_of(await client.info("memory"))
    except redis.ResponseError as error:
        if fault_of(error) in {RedisFault.REFUSED, RedisFault.FAILED}:
            return None
        raise


def refuse_eviction(address: str) -> None:
    """Raise RedisEvictsError when Redis may evict the farm's data.

    A Redis that is unreachable now passes: the farm checks it again while it runs.
    """
    try:
        with connect(address, retries=0) as client:
            memory = read_memory(client)
    except (redis.RedisError, OSError):
        return
    if memory is None or memory.policy is None:
        logger.warning(
            "Redis' maxmemory-policy is not readable; any but noeviction deletes recordings when memory is "
            "short. Allow this user INFO, or make sure that the policy is noeviction"
        )
    elif memory.evicts:
        raise RedisEvictsError(evicts_message(memory.policy))


def evicts_message(policy: str) -> str:
    """The error for a policy that evicts, with its remedy."""
    return (
        f"Redis has maxmemory-policy {policy}: it silently deletes records of recordings when its memory is "
        "short. Set it to noeviction (redis.conf, CONFIG SET, or the parameters of a managed Redis)"
    )
