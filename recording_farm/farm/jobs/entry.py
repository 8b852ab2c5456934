"""The jobs that RQ runs, by the names they have in Redis.

Names in Redis are the interface between versions of the farm: a job that an older or a newer version enqueued
must find its function here. So no name changes, no function takes other arguments, and a job reads all else
from the record of its recording.
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
    """Make a recording, or go on with one whose recorder has died."""
    _record.record(recording_id)


def finish(recording_id: str) -> None:
    """Cut and store what this node has recorded of a recording."""
    _finish.finish(recording_id)


def transfer(recording_id: str, target: str) -> None:
    """Try once to carry the files of a recording to one place."""
    _transfer.transfer(recording_id, target)


def send_webhooks() -> None:
    """Send the webhooks that are due."""
    _sender.send_due()


def delete_expired() -> None:
    """Delete recordings and evidence that have been kept for as long as the settings say."""
    _retention.sweep()


def resume_unqueued() -> None:
    """Look for recordings on this node that no job cares for, and queue their jobs again."""
    _local_spool.resume_lost()


_PREFIXES: Final = frozenset({"farm.jobs.entry", __name__})
"""What stands before the name of a function: in what this farm enqueues, and in what RQ's cron does."""

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
"""Names that version 0.1 enqueued; they go after 0.2."""


class NamedJob(Job):
    """A job that runs the function of this module that its name in Redis means.

    RQ's own class would import whatever the name says.
    """

    @property
    def func(self) -> Callable[..., None]:
        """The function. Raises ValueError when this version knows no job of that name."""
        name = self.func_name or ""
        prefix, _, function = name.rpartition(".")
        found = _JOBS.get(function) if prefix in _PREFIXES else _OLD_NAMES.get(name)
        if found is None:
            raise ValueError(f"this version knows no job {name!r}; upgrade the workers before the API")
        return found
