"""Waiting for the first of several things."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def first_of(**waiting: Awaitable[object]) -> str:
    """Wait for the first of several things and return its name; of those that come together, the first named.

    An error of the first is raised. The others are cancelled and waited for, as in `first_done`.
    """
    tasks = {name: asyncio.ensure_future(each) for name, each in waiting.items()}
    first = await first_done(*tasks.values())
    first.result()
    return next(name for name, task in tasks.items() if task is first)


async def first_done(*waiting: Awaitable[T]) -> asyncio.Future[T]:
    """Wait for the first of several things and return it, done; of those that come together, the first given.

    The others are cancelled and waited for, also when this is cancelled; an error of theirs is logged. Pass
    `asyncio.shield(task)` for a task that must go on.
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
            logger.info("a task that was not waited for any longer has failed", exc_info=ended)
