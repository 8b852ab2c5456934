"""How this node is, as it tells the others with each beat."""

import os
import shutil
from collections.abc import Iterator

import psutil

from recording_farm.browser_bot.stage.cleanup import stage_owners
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.host.resources import Processors, what_is_free
from recording_farm.farm.nodes.registry import Condition
from recording_farm.farm.recorder.warm_stage import WARM_HORSE
from recording_farm.farm.spool.spool import recordings_under_way


def condition_of_this_node(settings: Settings, processors: Processors) -> Condition | None:
    """How this node is; None when its disk cannot be looked at. Call it from a part of its worker."""
    try:
        settings.spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = what_is_free(settings.spool_dir, processors)
        return Condition(
            recordings=recordings_under_way(settings.spool_dir),
            warm_stages=sum(1 for _ in _warm_horses(os.getppid())),
            load=min(1.0, max(0.0, 1 - free.processors)),
            disk_free=free.disk,
            disk_size=shutil.disk_usage(settings.spool_dir).total,
            memory_free=free.memory,
        )
    except OSError:
        return None


def _warm_horses(worker: int) -> Iterator[int]:
    """The processes of a worker that have a stage and wait for a recording."""
    for pid in stage_owners():
        try:
            process = psutil.Process(pid)
            if process.name() == WARM_HORSE and any(parent.pid == worker for parent in process.parents()):
                yield pid
        except psutil.Error:  # it has ended just now
            continue
