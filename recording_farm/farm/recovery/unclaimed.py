"""Recordings that would stay INVOKED for ever: those without a job, and those that no worker takes.

A recording has no job when the API is killed between keeping the record and queueing the job, when Redis goes
away there, or when a worker dies before it could say anything about a recording. Only in the last case its
client was told that it is queued, and it is queued again.
"""

from contextlib import suppress
from datetime import timedelta
from typing import Final

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.errors import WrongStateError
from recording_farm.farm.queues.recordings import drop_job, enqueue_recording, has_live_job, was_queued
from recording_farm.farm.recording.model import Failure, Reason, ReasonKind, Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recovery.wait_times import Waits

NOT_QUEUED: Final = Failure(
    code="not_queued", message="the recording was not handed to any worker; please start it again"
)

GRACE: Final = timedelta(seconds=60)
"""How long a recording may be without a job; the API queues it within milliseconds."""


def fail_lost_recordings(
    records: Records, client: redis.Redis, waits: Waits, timeout: timedelta, grace: timedelta = GRACE
) -> list[Recording]:
    """Make recordings ERRORED that nobody will make; returns these.

    They are those that have been INVOKED for longer than `grace` and never had a job, and those that have
    waited for a worker for longer than `timeout`. What a dead worker had taken is queued again. Harmless to
    call often and from several processes; each has `waits` of its own, which must be the same at every call.
    Raises redis.RedisError when Redis cannot be reached.
    """
    lost = []
    invoked = [recording for recording in records.unfinished() if recording.status is Status.INVOKED]
    waited = waits.see([recording.id for recording in invoked])
    for recording in invoked:
        age = timedelta(microseconds=waited[recording.id] // 1000)
        failure = _failure(recording, client, age, timeout, grace)
        if failure is None:
            if age > grace and _was_dropped(recording, client):
                enqueue_recording(client, recording)
            continue
        with suppress(WrongStateError):  # a worker had it after all
            lost.append(fail_before_start(records, recording, failure))
            drop_job(client, recording.id)
    return lost


def _failure(
    recording: Recording, client: redis.Redis, age: timedelta, timeout: timedelta, grace: timedelta
) -> Failure | None:
    if age > grace and not was_queued(client, recording.id):
        return NOT_QUEUED
    # Once a node has it, the page's own time-outs count.
    if age > timeout and recording.node is None:
        seconds = int(timeout.total_seconds())
        return Failure(
            code="no_free_slot",
            message=f"no worker had a free slot within {seconds} s; start it again, or run more workers",
        )
    return None


def _was_dropped(recording: Recording, client: redis.Redis) -> bool:
    return recording.node is None and not has_live_job(client, recording.id)


def fail_before_start(records: Records, recording: Recording, failure: Failure = NOT_QUEUED) -> Recording:
    """Make a recording ERRORED that no worker will ever take.

    Raises WrongStateError when it is not INVOKED any more.
    """
    return records.change_state(
        recording.id,
        Status.ERRORED,
        only_from={Status.INVOKED},
        stopped_time=now(),
        stop_reason=Reason(reason=ReasonKind.INTERNAL_ERROR),
        error=failure,
    )
