"""Doing the same with many things, a few at a time."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")


def each(act: Callable[[Item], None], items: Iterable[Item], threads: int) -> None:
    """Call `act` with each item, in so many threads, and return when all are done.

    What holds in the caller's context (see `farm.storage.backends.allowed_addresses`) holds in the threads
    too.
    Raises the first error in the order of the items; after an error nothing more is begun, and what is under
    way comes to its end.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(copy_context().run, act, item) for item in items]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
