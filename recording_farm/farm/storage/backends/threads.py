"""A parallel map with a limited number of threads."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")


def each(act: Callable[[Item], None], items: Iterable[Item], threads: int) -> None:
    """Call `act` with each item in a pool of threads, and return when all calls are done.

    The threads inherit the caller's context (see `farm.storage.backends.allowed_addresses`). Raises the first
    error in the order of the items; after an error no further calls start, and running ones complete.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(copy_context().run, act, item) for item in items]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
