"""What can be wrong with Redis: it is away, full, read-only, or set to forget what the farm needs.

Whatever a command raises is one of a few faults (`fault_of`). A Redis that answers a read may still refuse
writes, so `look_at_redis` writes something. It also reads the memory policy: any but `noeviction` deletes
records of recordings when memory is short, and says nothing.

Redis 6.2 puts the code of an error inside a script into the middle of the text, Redis 7 at its beginning.
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
"""The only `maxmemory-policy` with which Redis deletes nothing that the farm keeps."""

_PROBE_KEY: Final = "farm:probe"
_PROBE_SECONDS: Final = 60

_CODE: Final = re.compile(
    r"(?:^|[\s:]-?)"
    r"(OOM|READONLY|UNBLOCKED|NOREPLICAS|MISCONF|MASTERDOWN|CLUSTERDOWN|LOADING|BUSY|NOPERM|NOAUTH)\b"
)
"""The codes of Redis 6.2 to 8 (`shared` in server.c) that say something of the server, not of a command."""


class RedisFault(StrEnum):
    """What keeps the farm from working with Redis."""

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
        """It in words, without a subject and without anything that a stranger may not know."""
        return _SENTENCES[self]


_SENTENCES: Final = {
    RedisFault.AWAY: "cannot be reached",
    RedisFault.LOADING: "is starting and still reads its data",
    RedisFault.BUSY: "is busy and answers nothing else",
    RedisFault.FULL: "is full and takes nothing new",
    RedisFault.READ_ONLY: "can only be read, it takes no writes",
    RedisFault.NOT_SAVING: "cannot save its data and takes no writes",
    RedisFault.REFUSED: "refuses the farm's user",
    RedisFault.EVICTS: "may delete records when its memory is short",
    RedisFault.FAILED: "has refused a command",
}

_NOT_IN_SCRIPT: Final = "The user executing the script can't"
"""What Redis says of a command that a user may not run, where a script runs it: there it has no code."""

_BY_CODE: Final = {
    "OOM": RedisFault.FULL,
    "READONLY": RedisFault.READ_ONLY,
    "UNBLOCKED": RedisFault.READ_ONLY,  # what waited in Redis when that was made a replica
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
    """Which fault an error of redis-py stands for; an OSError or a time-out counts as away."""
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
            answer = _answer_in(error)
            if _NOT_IN_SCRIPT in answer:
                return RedisFault.REFUSED
            found = _CODE.search(answer)
            return _BY_CODE[found[1]] if found else RedisFault.FAILED
        case redis.ConnectionError() | redis.TimeoutError() | OSError():
            return RedisFault.AWAY
    return RedisFault.FAILED


def describe(error: Exception) -> str:
    """An error for the log, without the command that met it: its arguments may be secrets."""
    return f"Redis {fault_of(error).sentence} ({type(error).__name__}: {_answer_in(error)})"


def _answer_in(error: Exception) -> str:
    # redis-py puts a pipeline's command in front: "Command # 1 (HSET …) of pipeline caused error: …"
    return str(error).rpartition(" of pipeline caused error: ")[2]


class Outage:
    """A time in which Redis fails one part of the farm: told in the log when it begins and when it ends."""

    FIRST_PAUSE: Final = 0.1
    MAX_PAUSE: Final = 2.0
    """Seconds between two tries."""

    def __init__(self, what: str, level: int = logging.INFO) -> None:
        """`what` does not work meanwhile, such as `recordings cannot be taken`.

        A node has many parts, which all meet the same; one of them tells of it with a higher level.
        """
        self._what = what
        self._level = level
        self._fault: RedisFault | None = None
        self._pause = self.FIRST_PAUSE

    @property
    def lasts(self) -> bool:
        """Whether the last try has failed."""
        return self._fault is not None

    def seen(self, error: Exception) -> float:
        """Redis has failed; how many seconds to wait before the next try."""
        fault = fault_of(error)
        if fault is not self._fault:
            logger.log(self._level, "%s, trying again until it works: %s", self._what, describe(error))
        self._fault = fault
        pause, self._pause = self._pause, min(2 * self._pause, self.MAX_PAUSE)
        return pause

    def over(self) -> bool:
        """Redis works; whether it had failed before."""
        was_there = self._fault is not None
        if was_there:
            logger.log(self._level, "Redis works again (before: %s)", self._what)
        self._fault, self._pause = None, self.FIRST_PAUSE
        return was_there


@dataclass(frozen=True)
class RedisMemory:
    """What a Redis says of its memory."""

    used: int
    """Bytes that count against `most`."""
    most: int
    """`maxmemory` in bytes; 0 is no limit."""
    policy: str | None
    """`maxmemory-policy`; None when this user may not know."""
    evicted: int
    """Keys that were deleted for want of memory since Redis started."""

    @property
    def evicts(self) -> bool:
        """Whether Redis is set to delete keys that the farm needs, as soon as it has a limit."""
        return self.policy not in {None, NO_EVICTION}


def memory_of(info: Mapping[str, Any]) -> RedisMemory:
    """What the sections `memory` and `stats` of INFO say; services leave out what they like."""
    policy = info.get("maxmemory_policy")
    return RedisMemory(
        used=int(info.get("used_memory", 0)),
        most=int(info.get("maxmemory", 0)),
        policy=None if policy is None else str(policy),
        evicted=int(info.get("evicted_keys", 0)),
    )


def read_memory(client: redis.Redis) -> RedisMemory | None:
    """What Redis says of its memory; None where this user may not ask. Raises redis.RedisError."""
    try:
        # Both sections in one INFO need Redis 7.
        return memory_of({**client.info("memory"), **client.info("stats")})
    except redis.ResponseError as error:
        if fault_of(error) in {RedisFault.REFUSED, RedisFault.FAILED}:
            return None
        raise


def probe(client: redis.Redis) -> None:
    """Write something that is gone in a minute. Raises redis.RedisError when Redis takes no writes."""
    client.set(_PROBE_KEY, 1, ex=_PROBE_SECONDS)


def look_at_redis(client: redis.Redis) -> RedisFault | None:
    """What keeps the farm from working with this Redis now; None if nothing does."""
    try:
        probe(client)
        memory = read_memory(client)
    except (redis.RedisError, OSError) as error:
        return fault_of(error)
    return RedisFault.EVICTS if memory is not None and memory.evicts else None


async def look_at_redis_async(client: redis.asyncio.Redis) -> RedisFault | None:
    """The same for asyncio."""
    try:
        async with in_time():
            # Not in a pipeline: one that met a replica would keep its connection (see `farm.db.clients`).
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
    """Raises RedisEvictsError when Redis is set to delete what the farm keeps.

    One that cannot be asked now is not refused: it is looked at again while the farm runs.
    """
    try:
        with connect(address, retries=0) as client:
            memory = read_memory(client)
    except (redis.RedisError, OSError):
        return
    if memory is None or memory.policy is None:
        logger.warning(
            "Redis does not tell its maxmemory-policy to this user; any but noeviction deletes recordings "
            "when memory is short. Allow the user INFO, or see to it that it is noeviction"
        )
    elif memory.evicts:
        raise RedisEvictsError(evicts_message(memory.policy))


def evicts_message(policy: str) -> str:
    """What is wrong with a policy, and what to do, for the operator."""
    return (
        f"Redis has maxmemory-policy {policy}: it deletes records of recordings when its memory is short, "
        "and nobody is told. Set it to noeviction (redis.conf, CONFIG SET, the parameters of a managed Redis)"
    )
