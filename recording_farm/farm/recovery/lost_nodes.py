"""The recordings of a node that is gone.

A running recording is resumed by any other node: a job is queued, and the slot that takes it claims the
recording for its node (`Records.claim`). Until then the lost node may come back and resume it.

A recording that is over lies as takes on the disk of the lost node. The farm waits some minutes for that
node. Then another one finishes the recording from its replica in the store. Without a replica only the lost
node can finish it: after FARM_NODE_PATIENCE it is UPLOADED if any storage has its files, else ERRORED. Files
that are in the store already are uploaded from there.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.errors import NotFoundError, SettingsError, TakenOverError, WrongStateError
from recording_farm.farm.nodes.registry import Gone, Nodes
from recording_farm.farm.progressive.restore import can_restore
from recording_farm.farm.queues.recordings import enqueue_continuation
from recording_farm.farm.queues.transfers import (
    enqueue_finish,
    enqueue_finish_lost,
    enqueue_transfer_from_store,
)
from recording_farm.farm.recording.files import is_in_store
from recording_farm.farm.recording.model import ACTIVE, Failure, Recording, Status, TimelineEntry
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.timeline import was_given_back
from recording_farm.farm.recording.transfers import OVER, TransferState, is_overdue, lost
from recording_farm.farm.spool.set_aside import NODE_LOST
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.telemetry.counts import Counts, transfer_increments

logger = logging.getLogger(__name__)

_PATIENCE: Final = timedelta(minutes=10)
"""How long to wait for the node: a machine that restarts is back sooner, with all of its takes."""

LOST: Final = Failure(code=NODE_LOST, message="the node that recorded it is gone, and its files with it")


def look_after(gone: Mapping[str, Gone], settings: Settings, client: redis.Redis) -> None:
    """Resume, upload or give up the recordings of nodes that are gone; several nodes may do so, and often.

    Raises redis.RedisError when Redis cannot be reached.
    """
    missed = set()
    for recording in Records(client).unfinished():
        if recording.node is None or recording.node not in gone:
            continue
        missed.add(recording.node)
        try:
            _look_after(recording, gone[recording.node], settings, client)
        except (NotFoundError, WrongStateError, TakenOverError) as error:
            logger.info("%s", error)  # its state has just changed
    for name in gone.keys() - missed:
        Nodes(client).forget(name)


def expect_nodes(client: redis.Redis) -> None:
    """Register the node of each unfinished recording, so that a lost one is found gone.

    A node that is gone is removed when it has no recordings. Later a recording may be handed back to it, by a
    node that took it over and recorded nothing. Raises redis.RedisError when Redis cannot be reached.
    """
    nodes = Nodes(client)
    wanted = {recording.node for recording in Records(client).unfinished() if recording.node is not None}
    for name in wanted - nodes.beats().keys():
        nodes.expect(name)


def _look_after(recording: Recording, gone: Gone, settings: Settings, client: redis.Redis) -> None:
    if recording.status in ACTIVE:
        enqueue_continuation(client, recording, None)
    elif is_in_store(recording):
        for transfer in recording.transfers:
            if is_overdue(transfer, now()):
                enqueue_transfer_from_store(client, recording, transfer.target)
    elif now() - gone.since >= _patience(recording, settings):
        # This process must not wait for the store.
        enqueue_finish_lost(client, recording)


def _patience(recording: Recording, settings: Settings) -> timedelta:
    """How long the farm waits for the node of an ended recording before another one may finish it."""
    if was_given_back(recording.timeline, recording.node):
        # Another node has taken the recording over already, and could not resume it.
        return timedelta()
    return min(_PATIENCE, timedelta(seconds=settings.node_patience))


def finish_lost(recording_id: str) -> None:
    """The RQ job that finishes an UPLOADING recording, whose node is gone, here, or gives it up.

    Does nothing if that node is back. The watch of the nodes queues it again each minute.
    """
    settings = load_settings()
    with connect(settings.redis_address) as client:
        try:
            _finish_lost(Records(client).get(None, recording_id), settings, client)
        except (NotFoundError, WrongStateError, TakenOverError) as error:
            logger.info("%s", error)
        except (StorageError, SettingsError) as error:
            logger.warning(
                "cannot finish recording %s without its node now, retrying: %s", recording_id, error
            )


def _finish_lost(recording: Recording, settings: Settings, client: redis.Redis) -> None:
    gone = None if recording.node is None else Nodes(client).gone(recording.node)
    if gone is None or recording.status is not Status.UPLOADING or is_in_store(recording):
        return
    is_out_of_patience = now() - gone.since >= timedelta(seconds=settings.node_patience)
    # A node that has made the files already has all of the recording.
    if (not recording.files or is_out_of_patience) and can_restore(recording, settings):
        fault = f"the node {recording.node} is gone; another node finishes the recording"
        entry = TimelineEntry(event="fault", fault=fault, node=recording.node, time=gone.heard)
        claimed = Records(client).claim(recording, settings.node, entry, states={Status.UPLOADING})
        Records(client).update(recording.id, files=())
        logger.warning("finishing recording %s from its replica in the store", recording.id)
        enqueue_finish(client, claimed, settings.node)
    elif is_out_of_patience:
        logger.error(
            "recording %s: giving up its node %s after FARM_NODE_PATIENCE", recording.id, recording.node
        )
        give_up(recording, client)


def give_up(recording: Recording, client: redis.Redis) -> None:
    """End an UPLOADING recording without its node: UPLOADED if any storage has its files, else ERRORED.

    Raises NotFoundError, and WrongStateError or TakenOverError when its node has just resumed it.
    """
    records = Records(client)
    for transfer in recording.transfers:
        if transfer.state not in OVER:
            recording = records.set_transfer(recording.id, lost(transfer), only_from={transfer.state})
            Counts(client).add(transfer_increments(lost(transfer)))
    if any(transfer.state is TransferState.DONE for transfer in recording.transfers):
        records.change_state(recording.id, Status.UPLOADED, by=recording.node)
    else:
        records.change_state(recording.id, Status.ERRORED, by=recording.node, error=LOST)
