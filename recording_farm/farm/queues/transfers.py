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

TRANSFER_JOB: Final = "farm.jobs.entry.transfer"
"""The function that carries files to one place; its arguments are the recording's id and the place's name."""

_FINISH_SECONDS: Final = 8 * 3600
"""What finishing may take. The longest is the sound of a day as MP3: most of an hour of a core."""

_FINISH_INTERVALS: Final = [1, 5, 15, 60, 300, 900, 3600, 3600, 3600]
"""Seconds between tries to finish a recording: a full disk or a store that is away may come back."""

MIN_TRANSFER_RATE: Final = 64 << 10
"""Bytes a second that a customer's storage must take; one that is slower would keep others waiting."""

_TRANSFER_SECONDS: Final = 300
"""What one try of a transfer may take besides."""

_TRANSFER_RETRY: Final = Retry(max=1000, interval=[1, 5, 30])
"""For tries that were killed, or met a Redis that was away; refusals are counted in the record."""


def transfers_queue(client: redis.Redis, node: str) -> Queue:
    """The queue of the work on ended recordings, whose takes lie in the spool of `node` and nowhere else.

    It carries them as far as the store, and never waits for a customer's storage.
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


def is_to_be_finished(client: redis.Redis, recording_id: UUID | str, node: str) -> bool:
    """Whether a job that cuts and stores a recording on `node` waits, is at work or is to be tried again.

    Raises redis.RedisError when Redis cannot be reached.
    """
    queue = transfers_queue(client, node)
    registries = queue.started_job_registry, queue.scheduled_job_registry
    job_ids = [
        *queue.get_job_ids(),
        *(job_id for registry in registries for job_id in registry.get_job_ids()),
    ]
    return any(
        job is not None and job.func_name in _FINISH_JOBS and job.args == (str(recording_id),)
        for job in Job.fetch_many(job_ids, connection=client)
    )


def enqueue_transfer_from_store(client: redis.Redis, recording: Recording, target: str) -> None:
    """Queue one try of a transfer of files that the store has, for any node, unless it is queued or at work.

    Raises redis.RedisError when Redis cannot be reached.
    """
    job_id = f"transfer-{recording.id}-{target}"
    with suppress(NoSuchJobError):
        job = Job.fetch(job_id, connection=client)
        if job.get_status() not in OVER:
            return
        job.delete()
    with suppress(DuplicateJobError):  # somebody else was quicker
        enqueue_transfer(client, recording, target, None, job_id=job_id)


def enqueue_transfer(
    client: redis.Redis,
    recording: Recording,
    target: str,
    node: str | None,
    at: datetime | None = None,
    job_id: str | None = None,
) -> None:
    """Queue one try of a transfer, for now or for later, where a customer's storage never delays the store.

    Harmless to call twice: the record says what is still to be done. Raises DuplicateJobError when there is a
    job called `job_id`, redis.RedisError when Redis cannot be reached.
    """
    queue = transfers_queue(client, node) if node and target == STORE else uploads_queue(client, node)
    # RQ drops what is left of a second, and a try that begins too early would be none.
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
