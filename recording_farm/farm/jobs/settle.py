"""Settles a recording: after its last transfer it becomes UPLOADED, and its spool is deleted."""

from contextlib import suppress
from uuid import UUID

import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import WrongStateError
from recording_farm.farm.progressive.sending import drop_leftovers
from recording_farm.farm.queues.transfers import enqueue_transfer
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.outputs import OVER as OUTPUTS_OVER
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.transfers import STORE, Transfer, needs_the_store, settled
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.set_aside import has_recorded, is_superseded
from recording_farm.farm.spool.spool import Spool, spool_of


def settle(recording_id: UUID, settings: Settings, client: redis.Redis) -> None:
    """Set a recording to UPLOADED once all its transfers and live outputs have ended, and delete its spool.

    Idempotent, and safe to call too early. Raises NotFoundError, redis.RedisError.
    """
    records = Records(client)
    recording = records.get(None, recording_id)
    if recording.status is Status.UPLOADING and needs_the_store(recording.transfers):
        _send_to_store(recording, records, settings, client)
        return
    if not settled(recording.transfers):
        return
    spool = spool_of(recording, settings)
    if recording.status is Status.UPLOADING:
        if has_running_outputs(recording, spool):
            # They report their ends first. Then the recorder, or `farm.recovery.local_spool` if it dies,
            # settles the recording.
            return
        try:
            recording = records.change_state(recording_id, Status.UPLOADED)
        except WrongStateError:
            recording = records.get(None, recording_id)
    is_to_be_set_aside = is_superseded(recording, settings) and has_recorded(spool, settings)
    if recording.status is Status.UPLOADED and not is_to_be_set_aside:
        drop_leftovers(recording, records.sealed_targets(recording_id), Outbox.of(spool), settings)
        spool.remove()


def _send_to_store(recording: Recording, records: Records, settings: Settings, client: redis.Redis) -> None:
    """Upload to the store as a fallback: the upload to the customer's storage was given up."""
    with suppress(WrongStateError):  # another process was faster
        records.set_transfer(recording.id, Transfer(target=STORE), only_new=True)
    enqueue_transfer(client, recording, STORE, settings.node)


def has_running_outputs(recording: Recording, spool: Spool) -> bool:
    """Whether live outputs of a recording still read its takes."""
    return spool.is_followed() and not all(output.state in OUTPUTS_OVER for output in recording.outputs)
