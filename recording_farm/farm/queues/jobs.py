"""What all jobs share: how long RQ keeps their results, and the metadata that an operator sees."""

from typing import Final

from rq.job import Job, JobStatus

import recording_farm.farm.queues.rq_hardening  # noqa: F401 - before any job is read
from recording_farm.farm.recording.model import Recording

RESULT_SECONDS: Final = 3600

FAILURE_SECONDS: Final = 7 * 86400
"""How long RQ keeps a failed job; the record of the recording is independent of it."""

OVER: Final = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED})


def job_meta(recording: Recording, node: str | None = None) -> dict[str, str | None]:
    """The metadata of a job for operators. The node is the one that must run it, or has taken it last."""
    return {"recording": str(recording.id), "meeting": recording.meeting_id, "node": node}


def note_node(job: Job, node: str) -> None:
    """Record in a job which node has taken it. Raises redis.RedisError when Redis cannot be reached."""
    job.meta["node"] = node
    job.save_meta()  # type: ignore[no-untyped-call]
