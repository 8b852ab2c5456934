"""Liveness probes: detect programs that hang or were stopped."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path


async def wait_until_hung(probe: Callable[[], Awaitable[object]], period: float, periods: int) -> None:
    """Call `probe` every `period` seconds; return once a call has not returned for `periods` periods.

    Whole periods are counted, not time: if the machine was suspended, one period is long but only one is
    missed.
    """
    missed = 0
    probing = asyncio.ensure_future(probe())
    try:
        while missed < periods:
            await asyncio.sleep(period)
            if probing.done():
                probing.result()
                missed = 0
                probing = asyncio.ensure_future(probe())
            else:
                missed += 1
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)


async def probe_socket(socket: Path, request: bytes) -> bool:
    """Send `request` to a server's socket and wait for the first byte; return False if the server is gone."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    try:
        writer.write(request)
        return bool(await reader.read(1))
    except OSError:
        return False
    finally:
        writer.close()
