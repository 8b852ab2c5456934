"""How long recordings have waited for a worker, without wall clocks.

A wall clock may be set, and machines have different ones. Each process counts by its own monotonic clock from
when it first saw a recording, starting at the time that other processes have counted. So the count never
exceeds the time that has passed, and it survives the process.

Keys
    farm:waited    sorted set: ids of waiting recordings, by the nanoseconds they have waited
"""

import time
from collections.abc import Callable, Collection
from typing import Final, cast
from uuid import UUID

import redis

_WAITED_KEY: Final = "farm:waited"


class QueueWaitTimes:
    """The recordings that wait, as one process has seen them."""

    def __init__(self, client: redis.Redis, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`client` must return bytes (see `farm.db.clients`); `clock` is monotonic, in nanoseconds."""
        self._redis = client
        self._clock = clock
        self._began: dict[UUID, int] = {}

    def update(self, waiting: Collection[UUID]) -> dict[UUID, int]:
        """Take all recordings that wait now; returns the nanoseconds that each has waited.

        Raises redis.RedisError when Redis cannot be reached.
        """
        counted = {
            UUID(member.decode()): int(score)
            for member, score in cast(
                "list[tuple[bytes, float]]", self._redis.zrange(_WAITED_KEY, 0, -1, withscores=True)
            )
        }
        moment = self._clock()
        self._began = {one: self._began.get(one, moment - counted.get(one, 0)) for one in waiting}
        waited = {one: moment - began for one, began in self._began.items()}
        with self._redis.pipeline() as pipeline:
            if over := counted.keys() - waited.keys():
                pipeline.zrem(_WAITED_KEY, *map(str, over))
            if waited:
                pipeline.zadd(_WAITED_KEY, {str(one): ns for one, ns in waited.items()}, gt=True)
            pipeline.execute()
        return waited
