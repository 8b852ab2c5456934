"""Waiting for the first of several things."""

import asyncio
from collections.abc import Awaitable


async def first_of(**waiting: Awaitable[object]) -> str:
    """Wait for the first of several things and return its name; of those that come together, the first named.

    What has not come is cancelled. What it raises is raised here.
    """
    tasks = {name: asyncio.ensure_future(event) for name, event in waiting.items()}
    try:
        await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        name, task = next((name, task) for name, task in tasks.items() if task.done())
        task.result()
        return name
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
