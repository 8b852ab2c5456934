"""Reports the progress of each copy of the node's recordings to Redis, until they are uploaded."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import Outage
from recording_farm.farm.progressive.copies import CopiesOfSpool
from recording_farm.farm.progressive.places import is_linked
from recording_farm.farm.recording.copies import KEPT_SECONDS, NO_COPIES, Copy, CopyReports
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.spool.spool import spools

logger = logging.getLogger(__name__)

REPORT_SECONDS: Final = 2.0
_REPEAT_SECONDS: Final = KEPT_SECONDS / 3
"""A report that has not changed is repeated after this time, before it expires."""

PartSizes = Mapping[str, Mapping[str, int] | None]
"""By recording id: the part sizes of the targets that take parts; None while unknown."""


class Reporter(threading.Thread):
    """Writes the reports of all recordings that have changed, every two seconds.

    It has its own thread and connection: while Redis is away, reports are dropped and nothing else waits.
    """

    def __init__(self, settings: Settings, part_sizes: Callable[[], PartSizes]) -> None:
        """`part_sizes` is called from this thread."""
        super().__init__(name="copies", daemon=True)
        self._settings = settings
        self._part_sizes = part_sizes
        self._copies: dict[str, CopiesOfSpool] = {}
        self._written: dict[str, _Written] = {}
        self._unreadable: set[str] = set()
        self._at_hand = STORE if is_linked(settings) else None
        self._outage = Outage("the progress of copies is not reported")

    def run(self) -> None:
        """Report until the process ends."""
        # A report that fails is not retried: the next one is newer.
        with connect(self._settings.redis_address, retries=0) as client:
            reports = CopyReports(client)
            while True:
                begun = time.monotonic()
                self.report(reports)
                time.sleep(max(0.0, begun + REPORT_SECONDS - time.monotonic()))

    def report(self, reports: CopyReports) -> None:
        """Write what has changed since the last time."""
        moment = time.monotonic()
        changed = {
            name: copies
            for name, copies in self._look_all().items()
            if copies and not self._is_known(name, copies, moment)
        }
        if not changed:
            return
        try:
            reports.write(self._settings.node, changed)
        except redis.RedisError as error:
            self._outage.failed(error)
            return
        self._outage.recovered()
        self._written |= {name: _Written(copies, moment) for name, copies in changed.items()}

    def _look_all(self) -> dict[str, Mapping[str, Copy]]:
        """The copies of each recording in the spool."""
        sizes = self._part_sizes()
        present = {directory.name: directory for directory in spools(self._settings.spool_dir)}
        self._copies = {
            name: self._copies.get(name) or CopiesOfSpool(directory) for name, directory in present.items()
        }
        self._written = {name: each for name, each in self._written.items() if name in present}
        self._unreadable &= present.keys()
        return {name: self._look(name, sizes.get(name)) for name in present}

    def _look(self, name: str, sizes: Mapping[str, int] | None) -> Mapping[str, Copy]:
        try:
            return self._copies[name].look(sizes, self._at_hand)
        except Exception:  # a spool may be damaged in any way, and the others are reported
            if name not in self._unreadable:
                logger.exception("recording %s: the progress of its copies is unknown", name)
            self._unreadable.add(name)
            return NO_COPIES

    def _is_known(self, name: str, copies: Mapping[str, Copy], moment: float) -> bool:
        written = self._written.get(name)
        return written is not None and written.copies == copies and moment - written.at < _REPEAT_SECONDS


@dataclass(frozen=True)
class _Written:
    copies: Mapping[str, Copy]
    at: float
