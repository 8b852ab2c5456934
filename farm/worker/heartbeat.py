"""What becomes of the recordings of a node that is gone; and the process of each node that looks for such.

One that is being recorded is gone on with by any other node: a job is queued, and the slot that takes it
makes the recording its node's own (`Records.claim`). Until that moment a node that comes back just goes on.

One that is over lies as takes on the disk of the node that is gone, so nobody but that one can finish it. It
is waited for (FARM_NODE_PATIENCE); then the recording is UPLOADED if its files are anywhere, else ERRORED.
Files that are in the store already are carried on from there.
"""

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import redis

from farm.clock import now
from farm.config.settings import Settings
from farm.db.clients import connect
from farm.db.faults import Outage
from farm.errors import NotFound, TakenOver, WrongState
from farm.host.processes import told_to_stop
from farm.host.resources import Processors
from farm.nodes.registry import BEAT_SECONDS, Gone, Nodes, Watch
from farm.queues.recordings import enqueue_continuation, enqueue_transfer_from_store
from farm.recording.files import is_in_store
from farm.recording.model import ACTIVE, Failure, Recording, Status
from farm.recording.records import Records
from farm.recording.transfers import OVER, TransferState, is_overdue, lost
from farm.spool.set_aside import NODE_LOST
from farm.telemetry.counts import Counts, of_transfer
from farm.worker.draining import is_draining
from farm.worker.node_status import condition_of_this_node

logger = logging.getLogger(__name__)

CARE_SECONDS: Final = 15.0
"""Between two times that the recordings of nodes that are gone are looked after; the first is at once."""

LOST: Final = Failure(
    code=NODE_LOST, message="the node that had recorded it is gone, and what was recorded with it"
)


def run_node(settings: Settings) -> None:
    """Say that this node lives, and look after the recordings of those that are gone, until SIGTERM."""
    stopping = told_to_stop()
    outage = Outage("this node waits for Redis and begins no recordings", logging.WARNING)
    with connect(settings.redis_address) as client:
        watcher = Watcher(settings, client)
        while not stopping.is_set():
            try:
                watcher.step()
                outage.over()
            except redis.RedisError as error:
                watcher.start_anew()
                outage.seen(error)
            stopping.wait(BEAT_SECONDS)


class Watcher:
    """Beats for this node, and acts when another one is gone."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        """Nothing is read or written yet."""
        self._settings = settings
        self._client = client
        self._nodes = Nodes(client)
        self._watch = Watch()
        self._processors = Processors()
        self._cared = float("-inf")

    def start_anew(self) -> None:
        """Forget what was heard of the other nodes."""
        self._watch.start_anew()

    def step(self) -> None:
        """Beat once, look once, and do what follows. Raises redis.RedisError when Redis cannot be reached."""
        condition = condition_of_this_node(self._settings, self._processors)
        self._nodes.beat(
            self._settings.node, self._settings.slots, condition, draining=is_draining(self._settings)
        )
        beats = self._nodes.beats()
        silent = self._watch.look(beats, time.monotonic())
        news = [name for name in silent if self._nodes.mark_gone(name, beats[name])]
        for name in news:
            logger.warning("the node %s is gone", name)
        if news or (silent and time.monotonic() - self._cared > CARE_SECONDS):
            self._cared = time.monotonic()
            gone = {name: found for name in silent if (found := self._nodes.gone(name)) is not None}
            look_after(gone, self._settings, self._client)


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
        except (NotFound, WrongState, TakenOver) as error:
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

    Raises NotFound, and WrongState or TakenOver when its node goes on with it just now.
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
