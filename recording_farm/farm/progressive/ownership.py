"""Whether this node still owns a recording, by Redis: only the owner may write its parts and its replica.

Another node takes a recording over after `GONE_AFTER` seconds without a heartbeat of this one. So an answer
of Redis is a lease of half that time. If it expires because Redis is away, parts wait until Redis is back.
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
"""How long an answer is used before Redis is asked again."""

_LEASE_SECONDS: Final = GONE_AFTER / 2
"""How long an answer is valid. The rest of `GONE_AFTER` is for a part that is being sent."""


@dataclass
class _Answer:
    asked: float = float("-inf")
    mine: float = float("-inf")
    """When Redis last confirmed this node as the owner, in seconds of CLOCK_MONOTONIC."""
    other: bool = False
    """Whether, by the last answer, another node owns the recording, or it was deleted."""


class Ownership:
    """The recordings of one node; for all threads of a process."""

    def __init__(self, client: redis.Redis, node: str) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._records = Records(client)
        self._node = node
        self._answers: dict[UUID, _Answer] = {}
        self._lock = threading.Lock()

    def is_mine(self, recording_id: UUID) -> bool:
        """Whether this node owns the recording; false while that is unknown."""
        answer = self._ask(recording_id)
        return not answer.other and time.monotonic() - answer.mine < _LEASE_SECONDS

    def is_lost(self, recording_id: UUID) -> bool:
        """Whether another node owns the recording, or it was deleted; false while that is unknown."""
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
        # Without the lock: other threads use the last answer meanwhile.
        try:
            node = self._records.node_of(recording_id)
        except NotFoundError:
            answer.other = True
        except redis.RedisError as error:
            logger.debug("cannot ask Redis for the owner of recording %s: %s", recording_id, error)
        else:
            # Before a worker has claimed it, nobody owns it.
            answer.other = node is not None and node != self._node
            if not answer.other:
                answer.mine = began
        return answer
