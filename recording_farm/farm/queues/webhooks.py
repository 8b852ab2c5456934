"""The queue of webhooks: one job sends whatever is due."""

from typing import Final

import redis
from rq import Queue

from recording_farm.farm.queues.jobs import FAILURE_SECONDS

SEND_JOB: Final = "farm.jobs.entry.send_webhooks"
"""The function that sends whatever webhooks are due."""

_SEND_SECONDS: Final = 180


def webhooks_queue(client: redis.Redis) -> Queue:
    """The queue from which the senders of every node take the order to look for deliveries."""
    return Queue("webhooks", connection=client)


def enqueue_sending(client: redis.Redis) -> None:
    """Have some sender look for deliveries that are due.

    Does nothing when such a job waits already: it will see what is due when it begins. Raises
    redis.RedisError when Redis cannot be reached.
    """
    queue = webhooks_queue(client)
    if queue.count == 0:
        queue.enqueue(
            SEND_JOB,
            job_timeout=_SEND_SECONDS,
            result_ttl=0,
            failure_ttl=FAILURE_SECONDS,
            description="send webhooks",
        )
