"""The queues of ended recordings: cut and store on their node, and upload to customers' storage."""

from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job

from recording_farm.farm.queues.jobs import FAILURE_SECONDS, OVER, RESULT_SECONDS, job_meta
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.transfers import STORE

FINISH_JOB: Final = "farm.jobs.entry.finish"
"""The function a worker calls, with the recording's id as its only argument; see `farm.jobs.entry`."""

_FINISH_JOBS: Final = frozenset({FINISH_JOB, "farm.finish_job.finish"})
"""And its name in the version before 0.2."""

FINISH_LOST_JOB: Final = "farm.jobs.entry.finish_lost"
"""The function that lets any node finish a recording whose node is gone; its argument is the recording."""

_FINISH_LOST_SECONDS: Final = 60
"""The time limit of that job, and how long after it the next one is queued."""

TRANSFER_JOB: Final = "farm.jobs.entry.transfer"
"""The function that uploads files to one storage; its arguments are the recording and the storage's name."""

_FINISH_SECONDS: Final = 8 * 3600
"""The time limit of finishing. The longest is a day of audio as MP3: most of an hour of a core."""

_FINISH_INTERVALS: Final = [1, 5, 15, 60, 300, 900, 3600, 3600, 3600]
"""Seconds between tries to finish a recording: a full disk or an unreachable store may recover."""

MIN_TRANSFER_RATE: Final = 64 << 10
"""Bytes a second that a customer's storage must accept; a slower one would delay others."""

_TRANSFER_SECONDS: Final = 300
"""The time limit of one try of a transfer, besides that."""

_TRANSFER_RETRY: Final = Retry(max=1000, interval=[1, 5, 30])
"""For tries that were killed or met an outage of Redis; refusals are counted in the record."""


def transfers_queue(client: redis.Redis, node: str) -> Queue:
    """The queue of jobs that cut and store ended recordings, whose takes are in the spool of `node` only.

    It never waits for a customer's storage.
    """
    return Queue(f"transfers.{node}", connection=client)


def uploads_queue(client: redis.Redis, node: str | None) -> Queue:
    """The queue of transfers to customers' storage: of files on `node` or, with None, in the store."""
    return Queue(f"uploads.{node}" if node else "uploads", connection=client)


def enqueue_finish(client: redis.Redis, recording: Recording, node: str) -> None:
    """Queue the job that cuts and stores what `node` has recorded of a recording.

    Harmless to call twice. Raises redis.RedisError when Redis cannot be reached.
    """
    transfers_queue(client, node).enqueue(
        FINISH_JOB,
        str(recording.id),
        job_timeout=_FINISH_SECONDS,
        retry=Retry(max=len(_FINISH_INTERVALS), interval=_FINISH_INTERVALS),
        result_ttl=RESULT_SECONDS,
        failure_ttl=FAILURE_SECONDS,
        description=f"finish the recording of the meeting {recording.meeting_id}",
        meta=job_meta(recording, node),
    )


def enqueue_finish_lost(client: redis.Redis, recording: Recording) -> None:
    """Queue the job that finishes a recording without its node, for any node, unless it was queued lately.

    Raises redis.RedisError when Redis cannot be reached.
    """
    with suppress(DuplicateJobError):
        uploads_queue(client, None).enqueue(
            FINISH_LOST_JOB,
            str(recording.id),
            job_id=f"finish-lost-{recording.id}",
            unique=True,
            job_timeout=_FINISH_LOST_SECONDS,
            result_ttl=_FINISH_LOST_SECONDS,
            failure_ttl=_FINISH_LOST_SECONDS,
            description=f"finish the recording of the meeting {recording.meeting_id} without its node",
            meta=job_meta(recording, None),
        )


def is_to_be_finished(client: redis.Redis, recording_id: UUID | str, node: str) -> bool:
    """Whether a job that cuts and stores a recording on `node` is queued, running or scheduled.

    Raises redis.RedisError when Redis cannot be reached.
    """
    queue = transfers_queue(client, node)
    registries = queue.started_job_registry, queue.scheduled_job_registry
    job_ids = [
        *queue.get_job_ids(),
        *(job_id for registry in registries for job_id in registry.get_job_ids()),
    ]
    return any(
        job is not None and job.func_name in _FINISH_JOBS and list(job.args) == [str(recording_id)]
        for job in Job.fetch_many(job_ids, connection=client)
    )


def enqueue_transfer_from_store(client: redis.Redis, recording: Recording, target: str) -> None:
    """Queue one try of a transfer of files that the store has, for any node, unless it is queued or running.

    Raises redis.RedisError when Redis cannot be reached.
    """
    job_id = f"transfer-{recording.id}-{target}"
    with suppress(NoSuchJobError):
        job = Job.fetch(job_id, connection=client)
        if job.get_status() not in OVER:
            return
        job.delete()
    with suppress(DuplicateJobError):  # another process was quicker
        enqueue_transfer(client, recording, target, None, job_id=job_id)


def enqueue_transfer(
    client: redis.Redis,
    recording: Recording,
    target: str,
    node: str | None,
    at: datetime | None = None,
    job_id: str | None = None,
) -> None:
    """Queue one try of a transfer, for now or later; a customer's storage never delays the store.

    Harmless to call twice: the record has the state of each transfer. Raises DuplicateJobError when a job
    called `job_id` exists, redis.RedisError when Redis cannot be reached.
    """
    queue = transfers_queue(client, node) if node and target == STORE else uploads_queue(client, node)
    # RQ drops fractions of a second, and a try that starts too early does nothing.
    enqueue = queue.enqueue if at is None else partial(queue.enqueue_at, at + timedelta(seconds=1))
    enqueue(
        TRANSFER_JOB,
        str(recording.id),
        target,
        job_id=job_id,
        unique=job_id is not None,
        job_timeout=_TRANSFER_SECONDS + sum(file.size for file in recording.files) // MIN_TRANSFER_RATE,
        retry=_TRANSFER_RETRY,
        result_ttl=RESULT_SECONDS,
        failure_ttl=FAILURE_SECONDS,
        description=f"transfer the recording of the meeting {recording.meeting_id} to {target}",
        meta=job_meta(recording, node),
    )
