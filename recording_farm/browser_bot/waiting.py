"""Waits for the first of several awaitables and cancels the others."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def first_of(**waiting: Awaitable[object]) -> str:
    """Wait for the first awaitable to finish and return its name; the first named if several finish together.

    Raises the error of the first. The others are cancelled and awaited, as in `first_done`.
    """
    tasks = {name: asyncio.ensure_future(each) for name, each in waiting.items()}
    first = await first_done(*tasks.values())
    first.result()
    return next(name for name, task in tasks.items() if task is first)


async def first_done(*waiting: Awaitable[T]) -> asyncio.Future[T]:
    """Wait for the first awaitable to finish and return it; the first given if several finish together.

    The others are cancelled and awaited, also when this call is cancelled; their errors are logged. Pass
    `asyncio.shield(task)` for a task that must keep running.
    """
    tasks = [asyncio.ensure_future(each) for each in waiting]
    first = None
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(task for task in tasks if task.done())
        return first
    finally:
        await _end([task for task in tasks if task is not first])


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            logger.info("a cancelled task failed", exc_info=ended)
