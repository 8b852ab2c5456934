"""The entry points of RQ jobs, by their names in Redis.

These names are an interface between versions of the farm: jobs that an older or newer version enqueued must
find their functions here. So names and arguments never change, and a job reads everything else from its
recording's record.
"""

import logging
import re
from collections.abc import Callable
from typing import Any, Final

from redis import Redis, RedisError
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job

from recording_farm.farm.jobs import finish as _finish
from recording_farm.farm.jobs import record as _record
from recording_farm.farm.jobs import retention as _retention
from recording_farm.farm.jobs import transfer as _transfer
from recording_farm.farm.queues import rq_hardening as _rq_hardening  # noqa: F401 - closes what RQ would run
from recording_farm.farm.recovery import local_spool as _local_spool
from recording_farm.farm.recovery import lost_nodes as _lost_nodes
from recording_farm.farm.webhooks import sender as _sender

logger = logging.getLogger(__name__)


def record(recording_id: str) -> None:
    """Make a recording, or resume one whose recorder died."""
    _record.record(recording_id)


def finish(recording_id: str) -> None:
    """Cut and store this node's takes of a recording."""
    _finish.finish(recording_id)


def finish_lost(recording_id: str) -> None:
    """Finish a recording whose node is gone, from its replica in the store."""
    _lost_nodes.finish_lost(recording_id)


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
    job.__name__: job
    for job in (record, finish, finish_lost, transfer, send_webhooks, delete_expired, resume_unqueued)
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

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TARGET: Final = re.compile(r"[a-z0-9_.-]{1,100}")

_ARGUMENTS: Final[dict[Callable[..., None], tuple[re.Pattern[str], ...]]] = {
    record: (_ID,),
    finish: (_ID,),
    finish_lost: (_ID,),
    transfer: (_ID, _TARGET),
}
"""What the arguments of a function look like; they become parts of paths. The others have none."""


class NamedJob(Job):
    """A job that maps its name in Redis to a function of this module, and does nothing else.

    RQ's own class would import any name. `refusal` says why a job must not run; workers ask it first.
    """

    success_callback = None
    failure_callback = None
    stopped_callback = None

    @classmethod
    def fetch(
        cls,
        id: str,  # noqa: A002 - RQ's name of it
        connection: Redis | None = None,
        serializer: Any = None,
    ) -> Job:
        """See `Job.fetch`. Raises NoSuchJobError also for what is not a job, and logs it."""
        try:
            return super().fetch(id, connection, serializer)
        except (NoSuchJobError, RedisError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever RQ makes of it
            logger.error("the job %r in Redis cannot be read and is dropped: %r", id, error)
            raise NoSuchJobError(f"the job {id!r} cannot be read") from None

    def restore(self, raw_data: Any) -> None:
        """See `Job.restore`."""
        super().restore(raw_data)
        if not (isinstance(self.meta, dict) and all(isinstance(v, str | None) for v in self.meta.values())):
            self.meta = {}

    @property
    def func(self) -> Callable[..., None]:
        """The function. Raises ValueError for a job that must not run."""
        reason = self.refusal()
        if reason is not None:
            raise ValueError(reason)
        found = _function(self.func_name)
        assert found is not None
        return found

    def refusal(self) -> str | None:
        """Why this job must not run, or None if the farm itself may have enqueued it."""
        try:
            name, instance, args, kwargs = self.func_name, self.instance, self.args, self.kwargs
        except DeserializationError as error:
            return f"its data cannot be read: {error.__cause__}"
        function = _function(name)
        if function is None:
            named = repr(name[:100]) if isinstance(name, str) else "without a name"
            return f"this version knows no job {named}; upgrade the workers before the API"
        if instance is not None or kwargs or not _are_arguments(function, args):
            return f"its arguments are not those of {name}"
        if self._success_callback_name or self._failure_callback_name or self._stopped_callback_name:
            return "it has callbacks"
        if self.webhooks or self._dependency_ids or self.repeats_left:
            return "it has webhooks, dependencies or repeats"
        return None


def _function(name: object) -> Callable[..., None] | None:
    if not isinstance(name, str):
        return None
    prefix, _, function = name.rpartition(".")
    return _JOBS.get(function) if prefix in _PREFIXES else _OLD_NAMES.get(name)


def _are_arguments(function: Callable[..., None], args: object) -> bool:
    patterns = _ARGUMENTS.get(function, ())
    if not isinstance(args, list | tuple) or len(args) != len(patterns):
        return False
    pairs = zip(patterns, args, strict=True)
    return all(isinstance(arg, str) and pattern.fullmatch(arg) for pattern, arg in pairs)
