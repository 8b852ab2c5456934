"""How much memory something takes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

_INTERVAL_SECONDS = 0.01


@dataclass
class Growth:
    """How many bytes more this process had than in the beginning, at most."""

    bytes: int = 0


@contextmanager
def watched_memory() -> Iterator[Growth]:
    """Look at this process's resident memory all the time."""
    process = psutil.Process()
    before = process.memory_info().rss
    growth = Growth()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_INTERVAL_SECONDS):
            growth.bytes = max(growth.bytes, process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield growth
    finally:
        over.set()
        watcher.join()
