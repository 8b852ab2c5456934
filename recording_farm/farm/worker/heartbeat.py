"""The heartbeat process of a node: it sends the node's beats and watches those of the other nodes.

`farm.recovery.lost_nodes` decides what happens to the recordings of a node that is gone.
"""

import logging
import threading
import time
from contextlib import suppress
from typing import Final

import redis

from recording_farm.browser_bot.stage.cleanup import Sweeper
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import Outage
from recording_farm.farm.host.processes import stop_event
from recording_farm.farm.host.resources import Processors
from recording_farm.farm.nodes.registry import BEAT_SECONDS, GONE_AFTER, Nodes, Watch
from recording_farm.farm.recovery.lost_nodes import look_after
from recording_farm.farm.telemetry.shared_settings import PUBLISH_SECONDS, SharedSettings, shared_values
from recording_farm.farm.webhooks.signature import load_signing_key
from recording_farm.farm.worker.admission import Admission, AdmissionLog
from recording_farm.farm.worker.draining import is_draining
from recording_farm.farm.worker.node_status import read_condition

logger = logging.getLogger(__name__)

CARE_SECONDS: Final = 15.0
"""Between two passes over the recordings of nodes that are gone; the first pass is at once."""

SWEEP_SECONDS: Final = 60.0
"""Between two passes over what dead recorders left on this machine."""

_THREAD_ENDS: Final = 2.0
"""Seconds that each of the other threads gets to end."""


def run_node(settings: Settings) -> None:
    """Send beats, and take care of the recordings of nodes that are gone, until SIGTERM."""
    stopping = stop_event()
    # In a thread: a store on a network file system may hang, and the beats must not.
    comparing = threading.Thread(target=_compare_shared_settings, args=(settings, stopping), daemon=True)
    sweeping = threading.Thread(target=_sweep, args=(stopping,), daemon=True)
    comparing.start()
    sweeping.start()
    outage = Outage("this node waits for Redis and accepts no recordings", logging.WARNING)
    with connect(settings.redis_address) as client:
        watcher = Watcher(settings, client)
        while not stopping.is_set():
            try:
                watcher.step()
                outage.recovered()
            except redis.RedisError as error:
                watcher.reset()
                outage.failed(error)
            stopping.wait(BEAT_SECONDS)
    for thread in (comparing, sweeping):
        thread.join(_THREAD_ENDS)


def _sweep(stopping: threading.Event) -> None:
    """Remove what dead recorders left, once a minute."""
    sweeper = Sweeper()
    while not stopping.wait(SWEEP_SECONDS):
        try:
            sweeper.sweep()
        except Exception:
            logger.exception("cannot clean up after dead recorders")


def _compare_shared_settings(settings: Settings, stopping: threading.Event) -> None:
    """Publish fingerprints of the shared settings and compare them with those of other processes."""
    values = shared_values(settings, load_signing_key(settings).public_pem)
    with connect(settings.redis_address, retries=0) as client:
        shared = SharedSettings(client, f"worker on {settings.node}", values)
        while not stopping.is_set():
            with suppress(redis.RedisError):  # the heartbeat logs that Redis is away
                shared.publish()
            stopping.wait(PUBLISH_SECONDS)
        with suppress(redis.RedisError):
            shared.withdraw()


class Watcher:
    """Sends the beats of this node, and acts when another node is gone."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        """Nothing is read or written yet."""
        self._settings = settings
        self._client = client
        self._nodes = Nodes(client)
        self._watch = Watch()
        self._processors = Processors()
        self._admission = Admission(settings, self._processors)
        self._admission_log = AdmissionLog()
        self._cared = float("-inf")

    def reset(self) -> None:
        """Forget the beats of the other nodes."""
        self._watch.reset()

    def step(self) -> None:
        """Send one beat, and look for nodes that are gone once. Raises redis.RedisError."""
        self._beat()
        beats = self._nodes.beats()
        silent = self._watch.look(beats, time.monotonic())
        newly_gone = [name for name in silent if self._nodes.mark_gone(name, beats[name])]
        for name in newly_gone:
            logger.warning("the node %s is gone: no heartbeat for %.0f s", name, GONE_AFTER)
        if newly_gone or (silent and time.monotonic() - self._cared > CARE_SECONDS):
            self._cared = time.monotonic()
            gone = {name: found for name in silent if (found := self._nodes.gone(name)) is not None}
            look_after(gone, self._settings, self._client)

    def _beat(self) -> None:
        settings = self._settings
        no_room, draining = self._admission.look(), is_draining(settings)
        condition = read_condition(settings, self._processors)
        self._nodes.beat(settings.node, settings.slots, condition, draining=draining, no_room=no_room)
        if draining:
            return  # the worker has logged that it is shutting down
        if self._nodes.is_drained(settings.node):
            self._admission_log.note("drained", "an administrator has drained this node", time.monotonic())
        else:
            reason, message = (no_room.reason, no_room.message) if no_room else (None, "")
            self._admission_log.note(reason, message, time.monotonic())
