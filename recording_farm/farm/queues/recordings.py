"""The queues of recordings: new ones by organization and priority, and those to be resumed.

`farm.queues.fair_queue` decides which organization's recording starts next.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import redis
from rq import Queue
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry

from recording_farm.farm.queues.fair_queue import (
    BASE_NAMES,
    Backlogs,
    give_turn,
    give_turn_back,
    look_at_backlogs,
    name_without_organization,
    queue_name,
    ring_bell,
)
from recording_farm.farm.queues.jobs import FAILURE_SECONDS, OVER, RESULT_SECONDS, job_meta
from recording_farm.farm.recording.model import Priority, Recording

RECORD_JOB: Final = "farm.jobs.entry.record"
"""The function a worker calls, with the recording's id as its only argument; see `farm.jobs.entry`."""

_RECORD_SECONDS: Final = 86_400 + 3600
"""The time limit of the job: the longest recording, a day with its pauses, and the opening and closing."""

_CLAIM_TIMEOUT: Final = timedelta(seconds=30)
"""How long a started job may take to claim its recording."""

_TO_COME: Final = frozenset({JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED})


def recordings_queue(
    client: redis.Redis, organization_id: str, priority: Priority = Priority.NORMAL
) -> Queue:
    """The queue of an organization's new recordings of a priority."""
    return Queue(queue_name(organization_id, priority), connection=client)


def base_queues(client: redis.Redis) -> list[Queue]:
    """The queues of version 0.1, one for each priority; `take_next` empties them."""
    return [Queue(name, connection=client) for name in BASE_NAMES.values()]


def organizations_queues(client: redis.Redis) -> list[Queue]:
    """The queues of new recordings that organizations have or had. Raises redis.RedisError."""
    return [
        queue for queue in Queue.all(connection=client) if name_without_organization(queue.name) != queue.name
    ]


def node_recordings_queue(client: redis.Redis, node: str) -> Queue:
    """The queue of recordings that only `node` can resume; its slots take these first."""
    return Queue(f"recordings.{node}", connection=client)


def continuations_queue(client: redis.Redis) -> Queue:
    """The queue of recordings whose node is gone; slots of every node take these before new ones."""
    return Queue("continuations", connection=client)


def has_live_job(client: redis.Redis, recording_id: UUID | str) -> bool:
    """Whether the job of a recording is queued or running.

    Raises redis.RedisError when Redis cannot be reached.
    """
    job_ids = [str(recording_id), _continuation_id(recording_id)]
    jobs = [job for job in Job.fetch_many(job_ids, connection=client) if job is not None]
    return any(_is_live(client, job) for job in jobs)


def _is_live(client: redis.Redis, job: Job) -> bool:
    status = job.get_status(refresh=False)
    if status is JobStatus.QUEUED:
        # A worker that dies while it takes a job leaves the job's state as it was, but the job in no queue.
        return Queue(job.origin, connection=client).get_job_position(job.id) is not None
    if status is JobStatus.STARTED:
        # One that dies a moment later leaves it started; RQ looks for such jobs only every ten minutes.
        started = StartedJobRegistry(job.origin, connection=client)
        return job.id not in started.get_expired_job_ids()
    return status not in OVER


def was_queued(client: redis.Redis, recording_id: UUID | str) -> bool:
    """Whether a recording ever had a job.

    Raises redis.RedisError when Redis cannot be reached.
    """
    return Job.exists(str(recording_id), connection=client)


def count_waiting(client: redis.Redis) -> int:
    """How many recordings wait for a slot of any node. Raises redis.RedisError."""
    queues = [*organizations_queues(client), *base_queues(client), continuations_queue(client)]
    return sum(queue.count for queue in queues)


@dataclass(frozen=True)
class Place:
    """The place of a recording in the queue."""

    position: int
    """1 is the next, by the turns of the organizations as they are now."""
    is_held_back: bool = False
    """Whether it waits for another recording of its organization to end, by FARM_QUOTA_RUNNING."""


def queue_place(client: redis.Redis, recording: Recording, limit: int) -> Place | None:
    """The place of a recording in the queue; None once a worker has taken it.

    `limit` is FARM_QUOTA_RUNNING. Raises redis.RedisError when Redis cannot be reached.
    """
    organization_id, priority = recording.organization_id, recording.priority
    index = recordings_queue(client, organization_id, priority).get_job_position(str(recording.id))
    if index is None:
        return None
    return _place(look_at_backlogs(client, limit), organization_id, priority, index)


def queue_places(client: redis.Redis, organization_id: str, limit: int) -> dict[str, Place]:
    """The places of an organization's queued recordings by their ids.

    `limit` is FARM_QUOTA_RUNNING. Raises redis.RedisError when Redis cannot be reached.
    """
    backlogs = look_at_backlogs(client, limit)
    return {
        job_id: _place(backlogs, organization_id, priority, index)
        for priority in Priority
        for index, job_id in enumerate(recordings_queue(client, organization_id, priority).get_job_ids())
    }


def _place(backlogs: Backlogs, organization_id: str, priority: Priority, index: int) -> Place:
    place = organization_id, priority, index
    return Place(backlogs.position(*place), backlogs.is_held_back(*place))


def drop_job(client: redis.Redis, recording: Recording) -> None:
    """Delete the job of a recording, if it is still queued.

    Raises redis.RedisError when Redis cannot be reached.
    """
    job_id = str(recording.id)
    queues = recordings_queue(client, recording.organization_id, recording.priority), *base_queues(client)
    # A worker that has taken the job still needs it.
    if any(queue.remove(job_id) for queue in queues):
        with suppress(NoSuchJobError):
            Job.fetch(job_id, connection=client).delete()


def put_back(client: redis.Redis, queue: Queue, job: Job) -> None:
    """Put a job that was taken back to the front of its queue, for another slot. It is the next again.

    Raises redis.RedisError when Redis cannot be reached.
    """
    with client.pipeline() as pipeline:
        queue.push_job_id(job.id, pipeline, at_front=True)
        give_turn_back(pipeline, queue.name)
        ring_bell(pipeline)
        pipeline.execute()


def enqueue_recording(client: redis.Redis, recording: Recording) -> None:
    """Queue the job that makes `recording`; the job's id is the recording's.

    Raises redis.RedisError when Redis cannot be reached.
    """
    queue = recordings_queue(client, recording.organization_id, recording.priority)
    with client.pipeline() as pipeline:
        queue.enqueue(
            RECORD_JOB,
            str(recording.id),
            job_id=str(recording.id),
            job_timeout=_RECORD_SECONDS,
            result_ttl=RESULT_SECONDS,
            failure_ttl=FAILURE_SECONDS,
            description=f"record the meeting {recording.meeting_id}",
            meta=job_meta(recording),
            pipeline=pipeline,
        )
        give_turn(pipeline, recording.organization_id, recording.priority)
        ring_bell(pipeline)
        pipeline.execute()


def enqueue_continuation(client: redis.Redis, recording: Recording, node: str | None) -> None:
    """Queue the job that resumes a recording: on `node`, whose recorder has died, or with None anywhere.

    Harmless to call twice; with a node the caller knows that no recorder lives. Raises redis.RedisError when
    Redis cannot be reached.
    """
    queue = continuations_queue(client) if node is None else node_recordings_queue(client, node)
    job_id = _continuation_id(recording.id)
    try:
        _enqueue_resume(queue, recording, job_id)
    except DuplicateJobError:
        with suppress(NoSuchJobError):
            job = Job.fetch(job_id, connection=client)
            if _will_resume(job, queue, anywhere=node is None):
                return
            # Its worker died with the recorder, the job is over, or it is queued for another node.
            job.delete()
        with suppress(DuplicateJobError):  # another process was quicker
            _enqueue_resume(queue, recording, job_id)


def _will_resume(job: Job, queue: Queue, *, anywhere: bool) -> bool:
    status = job.get_status()
    if status in _TO_COME:
        return job.origin == queue.name
    # On another node it may be about to claim the recording.
    started = job.started_at
    return (
        anywhere
        and status is JobStatus.STARTED
        and started is not None
        and datetime.now(UTC) - started < _CLAIM_TIMEOUT
    )


def _enqueue_resume(queue: Queue, recording: Recording, job_id: str) -> None:
    queue.enqueue(
        RECORD_JOB,
        str(recording.id),
        job_id=job_id,
        unique=True,
        job_timeout=_RECORD_SECONDS,
        result_ttl=0,
        failure_ttl=FAILURE_SECONDS,
        description=f"resume the recording of the meeting {recording.meeting_id}",
        meta=job_meta(recording, recording.node),
    )


def _continuation_id(recording_id: UUID | str) -> str:
    return f"continue-{recording_id}"
