"""The queue of webhooks: one job sends all deliveries that are due."""

from typing import Final

import redis
from rq import Queue

from recording_farm.farm.queues.jobs import FAILURE_SECONDS

SEND_JOB: Final = "farm.jobs.entry.send_webhooks"
"""The function that sends all webhooks that are due."""

_SEND_SECONDS: Final = 180


def webhooks_queue(client: redis.Redis) -> Queue:
    """The queue from which the senders of every node take the job that looks for deliveries."""
    return Queue("webhooks", connection=client)


def enqueue_sending(client: redis.Redis) -> None:
    """Queue the job that looks for deliveries that are due.

    Does nothing when one is queued already: it looks when it starts. Raises
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
