"""The functions that RQ calls by name.

Their names lie in Redis, so they are the one interface between versions of the farm: a job that a newer or an
older version has queued must find its function here. None is ever renamed or takes other arguments; what a
recording's id says of a job is read from its record.
"""

from farm.jobs import finish as _finish
from farm.jobs import record as _record
from farm.jobs import retention as _retention
from farm.jobs import transfer as _transfer
from farm.recovery import local_spool as _local_spool
from farm.webhooks import sender as _sender


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
    _local_spool.look_for_lost()
