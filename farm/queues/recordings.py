"""The RQ queues and their jobs."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry

from farm.recording.model import Priority, Recording
from farm.recording.transfers import STORE

RECORD_JOB: Final = "farm.jobs.record.record"
FINISH_JOB: Final = "farm.jobs.finish.finish"
"""The functions a worker calls, with the recording's id as their only argument."""

TRANSFER_JOB: Final = "farm.jobs.transfer.transfer"
"""The function that carries files to one place; its arguments are the recording's id and the place's name."""

SEND_JOB: Final = "farm.webhooks.sender.send_due"
"""The function that sends whatever webhooks are due."""

_RECORDINGS: Final = {
    Priority.HIGH: "recordings-high",
    Priority.NORMAL: "recordings",
    Priority.LOW: "recordings-low",
}

_RECORD_SECONDS: Final = 86_400 + 3600
"""What a recording may take: the longest, a day with its pauses, and opening the page and tearing down."""

_FINISH_SECONDS: Final = 8 * 3600
"""What finishing may take. The longest is the sound of a day as MP3: most of an hour of a core."""

_FINISH_INTERVALS: Final = [1, 5, 15, 60, 300, 900, 3600, 3600, 3600]
"""Seconds between tries to finish a recording: a full disk or a store that is away may come back."""

SLOWEST_TRANSFER: Final = 64 << 10
"""Bytes a second that a customer's storage must take; one that is slower would keep others waiting."""

_TRANSFER_SECONDS: Final = 300
"""What one try of a transfer may take besides."""

_TRANSFER_RETRY: Final = Retry(max=1000, interval=[1, 5, 30])
"""For tries that were killed, or met a Redis that was away; refusals are counted in the record."""

_SEND_SECONDS: Final = 180

_CLAIM_TIMEOUT: Final = timedelta(seconds=30)
"""How long a job that has begun may take to claim its recording."""

_RESULT_SECONDS: Final = 3600
_FAILURE_SECONDS: Final = 7 * 86400
"""How long RQ keeps what came of a job; the recording's own record is kept apart from it."""


_OVER: Final = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED})


_TO_COME: Final = frozenset({JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED})


def recordings_queue(client: redis.Redis, priority: Priority = Priority.NORMAL) -> Queue:
    """The queue of a priority that every slot of every node takes recordings from."""
    return Queue(_RECORDINGS[priority], connection=client)


def recordings_queues(client: redis.Redis) -> list[Queue]:
    """The queues of all priorities, in the order in which slots take from them."""
    return [recordings_queue(client, priority) for priority in Priority]


def node_recordings_queue(client: redis.Redis, node: str) -> Queue:
    """The queue of recordings that only `node` can go on with; its slots take these first."""
    return Queue(f"recordings.{node}", connection=client)


def continuations_queue(client: redis.Redis) -> Queue:
    """The queue of recordings whose node is gone; slots of every node take these before they begin others."""
    return Queue("continuations", connection=client)


def transfers_queue(client: redis.Redis, node: str) -> Queue:
    """The queue of the work on ended recordings, whose takes lie in the spool of `node` and nowhere else.

    It carries them as far as the store, and never waits for a customer's storage.
    """
    return Queue(f"transfers.{node}", connection=client)


def uploads_queue(client: redis.Redis, node: str | None) -> Queue:
    """The queue of transfers to customers' storage: of files on `node` or, with None, in the store."""
    return Queue(f"uploads.{node}" if node else "uploads", connection=client)


def has_live_job(client: redis.Redis, recording_id: UUID | str) -> bool:
    """Whether the job that makes a recording is waiting or at work.

    Raises redis.RedisError when Redis cannot be reached.
    """
    job_ids = [str(recording_id), _continuation_id(recording_id)]
    jobs = [job for job in Job.fetch_many(job_ids, connection=client) if job is not None]
    return any(_is_live(client, job) for job in jobs)


def _is_live(client: redis.Redis, job: Job) -> bool:
    status = job.get_status(refresh=False)
    if status is JobStatus.QUEUED:
        # A worker that dies with a job in its hands leaves it as it was, but in no queue.
        return Queue(job.origin, connection=client).get_job_position(job.id) is not None
    if status is JobStatus.STARTED:
        # One that dies a moment later leaves it at work, and RQ looks for such jobs each ten minutes only.
        started = StartedJobRegistry(job.origin, connection=client)
        return job.id not in started.get_expired_job_ids()
    return status not in _OVER


def was_queued(client: redis.Redis, recording_id: UUID | str) -> bool:
    """Whether there ever was a job to make a recording.

    Raises redis.RedisError when Redis cannot be reached.
    """
    return Job.exists(str(recording_id), connection=client)


def queue_position(client: redis.Redis, recording_id: UUID | str) -> int | None:
    """Which place a recording has in the queue, 1 being the next; None once a worker has taken it.

    Raises redis.RedisError when Redis cannot be reached.
    """
    before = 0
    for queue in recordings_queues(client):
        position = queue.get_job_position(str(recording_id))
        if position is not None:
            return before + position + 1
        before += queue.count
    return None


def queue_positions(client: redis.Redis) -> dict[str, int]:
    """The places of all recordings that wait in the queue, by their ids, 1 being the next.

    Raises redis.RedisError when Redis cannot be reached.
    """
    waiting = [job_id for queue in recordings_queues(client) for job_id in queue.get_job_ids()]
    return {recording_id: position for position, recording_id in enumerate(waiting, 1)}


def drop_job(client: redis.Redis, recording_id: UUID | str) -> None:
    """Forget the job of a recording, if it waits in the queue.

    Raises redis.RedisError when Redis cannot be reached.
    """
    # A worker that has taken it needs it still.
    if any(queue.remove(str(recording_id)) for queue in recordings_queues(client)):
        with suppress(NoSuchJobError):
            Job.fetch(str(recording_id), connection=client).delete()


def enqueue_recording(client: redis.Redis, recording: Recording) -> None:
    """Queue the job that makes `recording`; the job's id is the recording's.

    Raises redis.RedisError when Redis cannot be reached.
    """
    recordings_queue(client, recording.priority).enqueue(
        RECORD_JOB,
        str(recording.id),
        job_id=str(recording.id),
        job_timeout=_RECORD_SECONDS,
        result_ttl=_RESULT_SECONDS,
        failure_ttl=_FAILURE_SECONDS,
        description=f"record the meeting {recording.meeting_id}",
        meta=_about(recording),
    )


def _about(recording: Recording, node: str | None = None) -> dict[str, str | None]:
    """What an operator is told of a job. The node is the one that can do it, or at last has taken it."""
    return {"recording": str(recording.id), "meeting": recording.meeting_id, "node": node}


def note_node(job: Job, node: str) -> None:
    """Note in a job which node has taken it. Raises redis.RedisError when Redis cannot be reached."""
    job.meta["node"] = node
    job.save_meta()  # type: ignore[no-untyped-call]


def enqueue_continuation(client: redis.Redis, recording: Recording, node: str | None) -> None:
    """Queue the job that goes on with a recording: on `node`, whose recorder has died, or with None anywhere.

    Harmless to call twice; with a node the caller knows that no recorder lives. Raises redis.RedisError when
    Redis cannot be reached.
    """
    queue = continuations_queue(client) if node is None else node_recordings_queue(client, node)
    job_id = _continuation_id(recording.id)
    try:
        _continue(queue, recording, job_id)
    except DuplicateJobError:
        with suppress(NoSuchJobError):
            job = Job.fetch(job_id, connection=client)
            if _will_go_on(job, queue, anywhere=node is None):
                return
            # Its worker died with the recorder, it is over, or it waits for another node.
            job.delete()
        with suppress(DuplicateJobError):  # somebody else was quicker
            _continue(queue, recording, job_id)


def _will_go_on(job: Job, queue: Queue, *, anywhere: bool) -> bool:
    status = job.get_status()
    if status in _TO_COME:
        return job.origin == queue.name
    # On some other node it may be about to claim the recording.
    began = job.started_at
    return (
        anywhere
        and status is JobStatus.STARTED
        and began is not None
        and datetime.now(UTC) - began < _CLAIM_TIMEOUT
    )


def _continue(queue: Queue, recording: Recording, job_id: str) -> None:
    queue.enqueue(
        RECORD_JOB,
        str(recording.id),
        job_id=job_id,
        unique=True,
        job_timeout=_RECORD_SECONDS,
        result_ttl=0,
        failure_ttl=_FAILURE_SECONDS,
        description=f"go on with the recording of the meeting {recording.meeting_id}",
        meta=_about(recording, recording.node),
    )


def _continuation_id(recording_id: UUID | str) -> str:
    return f"continue-{recording_id}"


def enqueue_finish(client: redis.Redis, recording: Recording, node: str) -> None:
    """Queue the job that cuts and stores what `node` has recorded of a recording.

    Harmless to call twice. Raises redis.RedisError when Redis cannot be reached.
    """
    transfers_queue(client, node).enqueue(
        FINISH_JOB,
        str(recording.id),
        job_timeout=_FINISH_SECONDS,
        retry=Retry(max=len(_FINISH_INTERVALS), interval=_FINISH_INTERVALS),
        result_ttl=_RESULT_SECONDS,
        failure_ttl=_FAILURE_SECONDS,
        description=f"finish the recording of the meeting {recording.meeting_id}",
        meta=_about(recording, node),
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
        job is not None and job.func_name == FINISH_JOB and job.args == (str(recording_id),)
        for job in Job.fetch_many(job_ids, connection=client)
    )


def enqueue_transfer_from_store(client: redis.Redis, recording: Recording, target: str) -> None:
    """Queue one try of a transfer of files that the store has, for any node, unless it is queued or at work.

    Raises redis.RedisError when Redis cannot be reached.
    """
    job_id = f"transfer-{recording.id}-{target}"
    with suppress(NoSuchJobError):
        job = Job.fetch(job_id, connection=client)
        if job.get_status() not in _OVER:
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
        job_timeout=_TRANSFER_SECONDS + sum(file.size for file in recording.files) // SLOWEST_TRANSFER,
        retry=_TRANSFER_RETRY,
        result_ttl=_RESULT_SECONDS,
        failure_ttl=_FAILURE_SECONDS,
        description=f"transfer the recording of the meeting {recording.meeting_id} to {target}",
        meta=_about(recording, node),
    )


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
            failure_ttl=_FAILURE_SECONDS,
            description="send webhooks",
        )
