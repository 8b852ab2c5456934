"""For how long recordings have waited for a worker, counted by those who look at them.

No wall clock has a say: one may be set by an hour, and several machines have several. Each process that looks
counts by its own monotonic clock from when it first saw a recording, on from what others had counted until
then. So nobody counts more than has passed, and what is counted survives who counts.

Keys
    farm:waited    sorted set: ids of recordings that wait, by the nanoseconds that they were seen to
"""

import time
from collections.abc import Callable, Collection
from typing import Final, cast
from uuid import UUID

import redis

_WAITED_KEY: Final = "farm:waited"


class Waits:
    """What one process has seen of the recordings that wait."""

    def __init__(self, client: redis.Redis, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`client` must return bytes (see `farm.db.clients`); `clock` is never set, in nanoseconds."""
        self._redis = client
        self._clock = clock
        self._began: dict[UUID, int] = {}

    def see(self, waiting: Collection[UUID]) -> dict[UUID, int]:
        """For how many nanoseconds each of these, which are all that wait, has been seen to.

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
