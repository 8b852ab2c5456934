"""The condition of this node, which each heartbeat publishes."""

import os
import shutil
from collections.abc import Iterator

import psutil

from recording_farm.browser_bot.stage.cleanup import stage_owners
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.host.resources import Processors, free_resources
from recording_farm.farm.nodes.registry import Condition
from recording_farm.farm.recorder.warm_stage import WARM_HORSE
from recording_farm.farm.spool.spool import count_running_recordings


def read_condition(settings: Settings, processors: Processors) -> Condition | None:
    """Measure this node; None when its disk is not readable. Call it from a child process of the worker."""
    try:
        settings.spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = free_resources(settings.spool_dir, processors)
        return Condition(
            recordings=count_running_recordings(settings.spool_dir),
            warm_stages=sum(1 for _ in _warm_horses(os.getppid())),
            load=min(1.0, max(0.0, 1 - free.processors)),
            disk_free=free.disk,
            disk_size=shutil.disk_usage(settings.spool_dir).total,
            memory_free=free.memory,
        )
    except OSError:
        return None


def _warm_horses(worker: int) -> Iterator[int]:
    """The worker's processes that wait for a recording with an open stage."""
    for pid in stage_owners():
        try:
            process = psutil.Process(pid)
            if process.name() == WARM_HORSE and any(parent.pid == worker for parent in process.parents()):
                yield pid
        except psutil.Error:  # it just exited
            continue
