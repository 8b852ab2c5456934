"""How long Redis has been unusable, as a process sees it that wants to shut down."""

import time

import redis

from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import probe


class RedisOutage:
    """Probes Redis, and remembers since when it has failed."""

    def __init__(self, address: str) -> None:
        """`address` is as `farm.db.clients.connect` takes it; nothing is sent yet."""
        self._address = address
        self._since: float | None = None

    def duration(self) -> float:
        """Write to Redis; returns for how many seconds that has failed, 0 if it works. Takes 5 s at most.

        A Redis that answers but rejects writes counts as failed: nothing can be finished with it.
        """
        asked = time.monotonic()
        try:
            # A connection of its own: RQ's may be blocked in Redis.
            with connect(self._address, retries=0) as client:
                probe(client)
        except redis.RedisError:
            self._since = asked if self._since is None else self._since
            return time.monotonic() - self._since
        self._since = None
        return 0.0
