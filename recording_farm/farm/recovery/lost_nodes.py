"""What becomes of the recordings of a node that is gone.

One that is being recorded is gone on with by any other node: a job is queued, and the slot that takes it
makes the recording its node's own (`Records.claim`). Until that moment a node that comes back just goes on.

One that is over lies as takes on the disk of the node that is gone, so nobody but that one can finish it. It
is waited for (FARM_NODE_PATIENCE); then the recording is UPLOADED if its files are anywhere, else ERRORED.
Files that are in the store already are carried on from there."""

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
from recording_farm.farm.telemetry.counts import Counts, of_transfer

logger = logging.getLogger(__name__)

LOST: Final = Failure(
    code=NODE_LOST, message="the node that had recorded it is gone, and what was recorded with it"
)


def look_after(gone: Mapping[str, Gone], settings: Settings, client: redis.Redis) -> None:
    """Do what can be done for the recordings of nodes that are gone; several nodes may do so, and often.

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
            logger.info("%s", error)  # something happened to it just now
    for name in gone.keys() - missed:
        Nodes(client).forget(name)


def expect_nodes(client: redis.Redis) -> None:
    """Have the node of each unfinished recording known, so that one that is gone is found to be.

    A node that is gone is forgotten when it has no recordings; one may be handed back to it later, by a node
    that took it over and could record nothing. Raises redis.RedisError when Redis cannot be reached.
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
        logger.error("recording %s: its node %s is waited for no longer", recording.id, recording.node)
        give_up(recording, client)


def _is_out_of_patience(gone: Gone, settings: Settings, moment: datetime) -> bool:
    return moment - gone.since >= timedelta(seconds=settings.node_patience)


def give_up(recording: Recording, client: redis.Redis) -> None:
    """Take an UPLOADING recording to its end without its node: UPLOADED if a place has its files, or ERRORED.

    Raises NotFoundError, and WrongStateError or TakenOverError when its node goes on with it just now.
    """
    records = Records(client)
    for transfer in recording.transfers:
        if transfer.state not in OVER:
            recording = records.set_transfer(recording.id, lost(transfer), only_from={transfer.state})
            Counts(client).add(of_transfer(lost(transfer)))
    if any(transfer.state is TransferState.DONE for transfer in recording.transfers):
        records.change_state(recording.id, Status.UPLOADED, by=recording.node)
    else:
        records.change_state(recording.id, Status.ERRORED, by=recording.node, error=LOST)
