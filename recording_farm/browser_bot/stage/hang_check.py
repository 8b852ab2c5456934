"""Heartbeats: detect programs that hang or were stopped, by asking them for a sign of life."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path


async def silence(ask: Callable[[], Awaitable[object]], period: float, periods: int) -> None:
    """Call `ask` each `period` seconds until it has not returned for `periods` of them.

    The time is counted in whole periods: on a machine that stood still one of them is long, but what was
    asked has not missed the others.
    """
    missed = 0
    asking = asyncio.ensure_future(ask())
    try:
        while missed < periods:
            await asyncio.sleep(period)
            if asking.done():
                asking.result()
                missed = 0
                asking = asyncio.ensure_future(ask())
            else:
                missed += 1
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def greet(socket: Path, greeting: bytes) -> bool:
    """Connect to a server's socket, say `greeting` and wait for the first word; False if it is gone."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    try:
        writer.write(greeting)
        return bool(await reader.read(1))
    except OSError:
        return False
    finally:
        writer.close()
