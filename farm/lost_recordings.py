"""Recordings that wait for a job that does not exist any more; without this they would stay INVOKED for ever.

It happens when the API is killed between keeping the record and queueing the job, when Redis goes away there,
or when a worker dies before it could say anything about a recording.
"""

from contextlib import suppress
from datetime import timedelta
from typing import Final

import redis

from farm.errors import WrongState
from farm.queues import has_live_job
from farm.recordings import Failure, Reason, ReasonKind, Recording, Status, now
from farm.records import Records

GRACE: Final = timedelta(seconds=60)
"""How long a recording may be without a job; the API queues it within milliseconds."""


def fail_lost_recordings(records: Records, client: redis.Redis, grace: timedelta = GRACE) -> list[Recording]:
    """Make recordings ERRORED that have been INVOKED for longer than `grace` and have no job; returns these.

    Harmless to call often and from several processes. Raises redis.RedisError when Redis cannot be reached.
    """
    latest = now() - grace
    lost = []
    for recording in records.unfinished():
        if recording.status is not Status.INVOKED or recording.invoked_time > latest:
            continue
        if has_live_job(client, recording.id):
            continue
        with suppress(WrongState):  # a worker had it after all
            lost.append(fail_before_start(records, recording))
    return lost


def fail_before_start(records: Records, recording: Recording) -> Recording:
    """Make a recording ERRORED that no worker will ever take.

    Raises WrongState when it is not INVOKED any more.
    """
    return records.change_state(
        recording.id,
        Status.ERRORED,
        only_from={Status.INVOKED},
        stopped_time=now(),
        stop_reason=Reason(reason=ReasonKind.INTERNAL_ERROR),
        error=Failure(
            code="not_queued", message="the recording was not handed to any worker; please start it again"
        ),
    )
