"""The process of a node that says that the node lives, and looks whether others do.

What becomes of the recordings of a node that is gone, `farm.recovery.lost_nodes` knows.
"""

import logging
import time
from typing import Final

import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import Outage
from recording_farm.farm.host.processes import told_to_stop
from recording_farm.farm.host.resources import Processors
from recording_farm.farm.nodes.registry import BEAT_SECONDS, Nodes, Watch
from recording_farm.farm.recovery.lost_nodes import look_after
from recording_farm.farm.worker.draining import is_draining
from recording_farm.farm.worker.node_status import condition_of_this_node

logger = logging.getLogger(__name__)

CARE_SECONDS: Final = 15.0
"""Between two times that the recordings of nodes that are gone are looked after; the first is at once."""


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
