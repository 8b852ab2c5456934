"""What all jobs have in common: how long RQ keeps their results, and what an operator is told of them."""

from typing import Final

from rq.job import Job, JobStatus

from recording_farm.farm.recording.model import Recording

RESULT_SECONDS: Final = 3600

FAILURE_SECONDS: Final = 7 * 86400
"""How long RQ keeps what came of a job; the recording's own record is kept apart from it."""

OVER: Final = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED})


def job_meta(recording: Recording, node: str | None = None) -> dict[str, str | None]:
    """What an operator is told of a job. The node is the one that can do it, or at last has taken it."""
    return {"recording": str(recording.id), "meeting": recording.meeting_id, "node": node}


def note_node(job: Job, node: str) -> None:
    """Note in a job which node has taken it. Raises redis.RedisError when Redis cannot be reached."""
    job.meta["node"] = node
    job.save_meta()  # type: ignore[no-untyped-call]
