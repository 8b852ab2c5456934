"""The recordings of a node that is gone.

A running recording is resumed by any other node: a job is queued, and the slot that takes it claims the
recording for its node (`Records.claim`). Until then the lost node may come back and resume it.

A recording that is over lies as takes on the disk of the lost node, so only that node can finish it. The farm
waits for it (FARM_NODE_PATIENCE); then the recording is UPLOADED if any storage has its files, else ERRORED.
Files that are in the store already are uploaded from there.
"""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import NotFoundError, TakenOverError, WrongStateError
from recording_farm.farm.nodes.registry import Gone, Nodes
from recording_farm.farm.queues.recordings import enqueue_continuation
from recording_farm.farm.queues.transfers import enqueue_transfer_from_store
from recording_farm.farm.recording.files import is_in_store
from recording_farm.farm.recording.model import ACTIVE, Failure, Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.transfers import OVER, TransferState, is_overdue, lost
from recording_farm.farm.spool.set_aside import NODE_LOST
from recording_farm.farm.telemetry.counts import Counts, transfer_increments

logger = logging.getLogger(__name__)

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
    elif _is_out_of_patience(gone, settings, now()):
        logger.error(
            "recording %s: giving up its node %s after FARM_NODE_PATIENCE", recording.id, recording.node
        )
        give_up(recording, client)


def _is_out_of_patience(gone: Gone, settings: Settings, moment: datetime) -> bool:
    return moment - gone.since >= timedelta(seconds=settings.node_patience)


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
