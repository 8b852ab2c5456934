"""Admission: whether this node accepts another recording now, or leaves it in the queue."""

import logging
from pathlib import Path
from typing import Final

from recording_farm.browser_bot.stage.box import space_on_disk
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.host.resources import RECORDING_MEMORY, Free, Processors, free_resources
from recording_farm.farm.nodes.registry import NoRoom, Shortage
from recording_farm.farm.spool.disk_space import space_for_cuts
from recording_farm.farm.spool.spool import has_running_recording

logger = logging.getLogger(__name__)

_MARGIN: Final = 1.05
"""A node that lacked disk or memory accepts recordings again once it has so many times what is required."""

_LOAD_MARGIN: Final = 0.05
"""How far the load must fall below FARM_MAX_LOAD before a node that was too busy accepts recordings again."""

_SETTLED_SECONDS: Final = 10.0
"""How long a change of admission must last before the log tells it."""


class Admission:
    """Whether this node has room for another recording, from one look to the next."""

    def __init__(self, settings: Settings, processors: Processors) -> None:
        """Nothing is measured yet."""
        self._settings = settings
        self._processors = processors
        self._no_room: NoRoom | None = None

    def look(self) -> NoRoom | None:
        """Why this node accepts no recording now; None if it does."""
        spool_dir = self._settings.spool_dir
        try:
            spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._no_room = no_room(
                free_resources(spool_dir, self._processors),
                self._settings,
                records_already=has_running_recording(spool_dir),
                space_for_cuts=space_for_cuts(spool_dir),
                space_for_stages=space_on_disk(self._settings.stage_limits, self._settings.slots, spool_dir),
                before=self._no_room,
            )
        except OSError as error:
            self._no_room = NoRoom(reason=Shortage.DISK, message=_unusable(self._settings.data_dir, error))
        return self._no_room


def _unusable(data_dir: Path, error: OSError) -> str:
    return f"the data directory {data_dir} (FARM_DATA_DIR) cannot be used: {error.strerror or error}"


def no_room(
    free: Free,
    settings: Settings,
    *,
    records_already: bool,
    space_for_cuts: int = 0,
    space_for_stages: int = 0,
    before: NoRoom | None = None,
) -> NoRoom | None:
    """Why a node with such free resources accepts no recording; None if it does.

    `space_for_cuts` is the disk, in bytes, that the recordings already here need for their cuts.
    `space_for_stages` is what recorded pages may write to the same disk, where stages have none of their own:
    it is kept free beside the reserve, so that no page ends another one's recording. `before` is
    the last decision: a node that lacked something needs a margin to accept recordings again, so that it does
    not switch to and fro around a limit.

    Load matters only while the node records: its recordings would lose frames. Without a recording of its own
    the load comes from other programs, and the node could wait for ever.
    """
    lacked = before.reason if before else None
    needed = settings.disk_reserve + space_for_cuts + space_for_stages
    if free.disk < needed * (_MARGIN if lacked == Shortage.DISK else 1):
        return NoRoom(
            reason=Shortage.DISK, message=_disk_message(free, settings, space_for_cuts, space_for_stages)
        )
    if free.memory < RECORDING_MEMORY * (_MARGIN if lacked == Shortage.MEMORY else 1):
        required = f"{RECORDING_MEMORY >> 20} MiB required for a recording"
        return NoRoom(reason=Shortage.MEMORY, message=f"{free.memory >> 20} MiB of memory free, {required}")
    busy = 1 - free.processors
    if records_already and busy > settings.max_load - (_LOAD_MARGIN if lacked == Shortage.LOAD else 0):
        return NoRoom(
            reason=Shortage.LOAD,
            message=f"processors {busy:.0%} busy, the limit is {settings.max_load:.0%} (FARM_MAX_LOAD)",
        )
    return None


def _disk_message(free: Free, settings: Settings, space_for_cuts: int, space_for_stages: int) -> str:
    reserve = settings.disk_reserve
    parts = [f"{reserve >> 20} MiB (FARM_DISK_RESERVE)"]
    if space_for_cuts:
        parts.append(f"{space_for_cuts >> 20} MiB for pending cuts")
    if space_for_stages:
        parts.append(f"{space_for_stages >> 20} MiB for what pages store (FARM_STAGE_DISK for each slot)")
    if len(parts) == 1:
        return f"{free.disk >> 20} MiB of disk free, {reserve >> 20} MiB required (FARM_DISK_RESERVE)"
    required = (reserve + space_for_cuts + space_for_stages) >> 20
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{free.disk >> 20} MiB of disk free, {required} MiB required: {listed}"


class AdmissionLog:
    """Logs once that a node stops accepting recordings, and once that it accepts them again."""

    def __init__(self) -> None:
        """The node accepts recordings."""
        self._logged: str | None = None
        self._present: str | None = None
        self._since = float("-inf")

    def note(self, reason: str | None, message: str, moment: float) -> None:
        """Take the state at `moment`, in seconds of a monotonic clock; `reason` None is that it accepts them.

        A state is logged once it has lasted for some seconds, so the load of a page that opens is not.
        """
        if reason != self._present:
            self._present, self._since = reason, moment
        if reason == self._logged or moment - self._since < _SETTLED_SECONDS:
            return
        self._logged = reason
        if reason is None:
            logger.warning("accepting recordings again")
        else:
            logger.warning("not accepting recordings: %s", message)
