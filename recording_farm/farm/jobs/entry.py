"""The entry points of RQ jobs, by their names in Redis.

These names are an interface between versions of the farm: jobs that an older or newer version enqueued must
find their functions here. So names and arguments never change, and a job reads everything else from its
recording's record.
"""

from collections.abc import Callable
from typing import Final

from rq.job import Job

from recording_farm.farm.jobs import finish as _finish
from recording_farm.farm.jobs import record as _record
from recording_farm.farm.jobs import retention as _retention
from recording_farm.farm.jobs import transfer as _transfer
from recording_farm.farm.recovery import local_spool as _local_spool
from recording_farm.farm.webhooks import sender as _sender


def record(recording_id: str) -> None:
    """Make a recording, or resume one whose recorder died."""
    _record.record(recording_id)


def finish(recording_id: str) -> None:
    """Cut and store this node's takes of a recording."""
    _finish.finish(recording_id)


def transfer(recording_id: str, target: str) -> None:
    """Try once to upload the files of a recording to one target."""
    _transfer.transfer(recording_id, target)


def send_webhooks() -> None:
    """Send due webhooks."""
    _sender.send_due()


def delete_expired() -> None:
    """Delete recordings and evidence older than FARM_RETENTION."""
    _retention.sweep()


def resume_unqueued() -> None:
    """Find recordings on this node that have no job, and enqueue their jobs again."""
    _local_spool.resume_lost()


_PREFIXES: Final = frozenset({"farm.jobs.entry", __name__})
"""Prefixes of function names: in jobs that the farm enqueues, and in those of RQ's cron."""

_JOBS: Final[dict[str, Callable[..., None]]] = {
    job.__name__: job for job in (record, finish, transfer, send_webhooks, delete_expired, resume_unqueued)
}

_OLD_NAMES: Final[dict[str, Callable[..., None]]] = {
    "farm.record_job.record": record,
    "farm.finish_job.finish": finish,
    "farm.transfer_job.transfer": transfer,
    "farm.webhook_sender.send_due": send_webhooks,
    "farm.retention.sweep": delete_expired,
    "farm.recovery.look_for_lost": resume_unqueued,
}
"""Names that version 0.1 enqueued; to be removed after 0.2."""


class NamedJob(Job):
    """A job that maps its name in Redis to a function of this module.

    RQ's own class would import any name.
    """

    @property
    def func(self) -> Callable[..., None]:
        """The function. Raises ValueError for an unknown name."""
        name = self.func_name or ""
        prefix, _, function = name.rpartition(".")
        found = _JOBS.get(function) if prefix in _PREFIXES else _OLD_NAMES.get(name)
        if found is None:
            raise ValueError(f"this version knows no job {name!r}; upgrade the workers before the API")
        return found
