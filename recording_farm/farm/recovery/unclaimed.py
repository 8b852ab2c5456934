"""Recordings that would stay INVOKED for ever: those without a job, and those that no worker takes.

A recording has no job when the API is killed, or loses Redis, between storing the record and queueing the
job, or when a worker dies before it has claimed the recording. Only in the last case the client was told that
it is queued, so it is queued again.
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
from recording_farm.farm.recovery.wait_times import QueueWaitTimes

NOT_QUEUED: Final = Failure(code="not_queued", message="the recording was not queued; start it again")

GRACE: Final = timedelta(seconds=60)
"""How long a recording may be without a job; the API queues it within milliseconds."""


def fail_lost_recordings(
    records: Records, client: redis.Redis, waits: QueueWaitTimes, timeout: timedelta, grace: timedelta = GRACE
) -> list[Recording]:
    """Fail recordings that no worker will make; returns them.

    These have been INVOKED for longer than `grace` and never had a job, or have waited for a worker for
    longer than `timeout`. A recording that a dead worker had taken is queued again. Several processes may
    call it, and often; each passes the same `waits` at every call. Raises redis.RedisError when Redis cannot
    be reached.
    """
    lost = []
    invoked = [recording for recording in records.unfinished() if recording.status is Status.INVOKED]
    waited = waits.update([recording.id for recording in invoked])
    for recording in invoked:
        age = timedelta(microseconds=waited[recording.id] // 1000)
        failure = _failure(recording, client, age, timeout, grace)
        if failure is None:
            if age > grace and _was_dropped(recording, client):
                enqueue_recording(client, recording)
            continue
        with suppress(WrongStateError):  # a worker has taken it just now
            lost.append(fail_before_start(records, recording, failure))
            drop_job(client, recording)
    return lost


def _failure(
    recording: Recording, client: redis.Redis, age: timedelta, timeout: timedelta, grace: timedelta
) -> Failure | None:
    if age > grace and not was_queued(client, recording.id):
        return NOT_QUEUED
    # Once a node has it, the time-outs of the page apply.
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
    """Fail a recording that no worker will ever take.

    Raises WrongStateError when it is no longer INVOKED.
    """
    return records.change_state(
        recording.id,
        Status.ERRORED,
        only_from={Status.INVOKED},
        stopped_time=now(),
        stop_reason=Reason(reason=ReasonKind.INTERNAL_ERROR),
        error=failure,
    )
