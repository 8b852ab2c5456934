"""Whether a recording still is this node's, as Redis says: only its node may change what the store has of it.

Another node takes a recording over when this one has sent no heartbeat for `GONE_AFTER` seconds. So an answer
is good for some seconds less, also while Redis cannot be reached: then parts wait until it can be.
"""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import redis

from recording_farm.farm.errors import NotFoundError
from recording_farm.farm.nodes.registry import GONE_AFTER
from recording_farm.farm.recording.records import Records

logger = logging.getLogger(__name__)

_FRESH_SECONDS: Final = 2.0
"""Redis is asked again after so long."""

_LEASE_SECONDS: Final = GONE_AFTER / 2
"""So long an answer is good. The rest of `GONE_AFTER` is for a part that is on its way."""


@dataclass
class _Answer:
    asked: float = float("-inf")
    mine: float = float("-inf")
    """When Redis last said that the recording is this node's, in seconds of CLOCK_MONOTONIC."""
    other: bool = False
    """Whether it last said that the recording is another's, or deleted."""


class Ownership:
    """The recordings of one node; for all threads of a process."""

    def __init__(self, client: redis.Redis, node: str) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._records = Records(client)
        self._node = node
        self._answers: dict[UUID, _Answer] = {}
        self._lock = threading.Lock()

    def is_mine(self, recording_id: UUID) -> bool:
        """Whether this node has the recording now; false while nobody can tell."""
        answer = self._ask(recording_id)
        return not answer.other and time.monotonic() - answer.mine < _LEASE_SECONDS

    def is_lost(self, recording_id: UUID) -> bool:
        """Whether another node has the recording, or it was deleted; false while nobody can tell."""
        return self._ask(recording_id).other

    def forget(self, recording_id: UUID) -> None:
        """Forget a recording that is over."""
        with self._lock:
            self._answers.pop(recording_id, None)

    def _ask(self, recording_id: UUID) -> _Answer:
        with self._lock:
            answer = self._answers.setdefault(recording_id, _Answer())
            began = time.monotonic()
            if began - answer.asked < _FRESH_SECONDS:
                return answer
            answer.asked = began
        # Not while the lock is held: the others have the last answer.
        try:
            node = self._records.node_of(recording_id)
        except NotFoundError:
            answer.other = True
        except redis.RedisError as error:
            logger.debug("Redis cannot tell whose recording %s is: %s", recording_id, error)
        else:
            # Before a worker has claimed it, it is nobody's.
            answer.other = node is not None and node != self._node
            if not answer.other:
                answer.mine = began
        return answer
