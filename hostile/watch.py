"""What a farm and its machine felt while something attacked them."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from testkit.running_farm import RunningFarm

_INTERVAL_SECONDS = 0.2
_ANSWER_TIMEOUT = 30.0


@dataclass
class Felt:
    """The worst of each, from the beginning of the watch to its end.

    `answer_ms` is an answer of the API to another organization. `memory` and `disk` are bytes and `processes`
    a number, more than in the beginning: of all processes of the farm, of its data and its stages' files.
    """

    answer_ms: float = 0.0
    memory: int = 0
    disk: int = 0
    processes: int = 0


@contextmanager
def watched(farm: RunningFarm) -> Iterator[Felt]:
    """Look at the farm several times a second."""
    felt, over = Felt(), threading.Event()
    watchers = [
        threading.Thread(target=target, args=(farm, felt, over), name=target.__name__)
        for target in (_watch_answers, _watch_machine)
    ]
    for watcher in watchers:
        watcher.start()
    try:
        yield felt
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()


def _watch_answers(farm: RunningFarm, felt: Felt, over: threading.Event) -> None:
    with httpx.Client(base_url=farm.address, auth=("acme", "key"), timeout=_ANSWER_TIMEOUT) as client:
        while not over.wait(_INTERVAL_SECONDS):
            began = time.monotonic()
            try:
                client.get("/v2/recordings", params={"per_page": 1})
            except httpx.TransportError:
                felt.answer_ms = max(felt.answer_ms, 1e3 * _ANSWER_TIMEOUT)
            else:
                felt.answer_ms = max(felt.answer_ms, 1e3 * (time.monotonic() - began))


def _watch_machine(farm: RunningFarm, felt: Felt, over: threading.Event) -> None:
    root = psutil.Process(farm.process.pid)
    before_count, before_memory = _processes(root)
    before_disk = _used(farm.data_dir.parent)
    while not over.wait(_INTERVAL_SECONDS):
        count, memory = _processes(root)
        felt.processes = max(felt.processes, count - before_count)
        felt.memory = max(felt.memory, memory - before_memory)
        felt.disk = max(felt.disk, _used(farm.data_dir.parent) - before_disk)


def _processes(root: psutil.Process) -> tuple[int, int]:
    """How many there are, and their memory without pages that they share."""
    count, memory = 0, 0
    for process in [root, *root.children(recursive=True)]:
        try:
            usage = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        count += 1
        memory += usage.rss - usage.shared
    return count, memory


def _used(directory: Path) -> int:
    """Bytes on disk of all files below a directory; files come and go meanwhile."""
    size = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                size += 512 * os.lstat(os.path.join(place, name)).st_blocks
    return size
