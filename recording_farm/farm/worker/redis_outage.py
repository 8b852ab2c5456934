"""For how long Redis has been unusable, as one process sees it that has something to end."""

import time

import redis

from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import probe


class Absence:
    """What was found whenever Redis was asked."""

    def __init__(self, address: str) -> None:
        """`address` is as `farm.db.clients.connect` takes it; nothing is asked yet."""
        self._address = address
        self._since: float | None = None

    def seconds(self) -> float:
        """Write to Redis; for how many seconds it has not taken that, 0 if it does. Takes some five at most.

        One that answers and takes no writes is of no use either to who ends: nothing can be finished.
        """
        asked = time.monotonic()
        try:
            # A connection of its own: RQ's may be waiting in Redis.
            with connect(self._address, retries=0) as client:
                probe(client)
        except redis.RedisError:
            self._since = asked if self._since is None else self._since
            return time.monotonic() - self._since
        self._since = None
        return 0.0
