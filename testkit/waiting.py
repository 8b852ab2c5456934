"""Waiting for something of which no event tells."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import redis


def wait_until(is_so: Callable[[], object], timeout: float = 30, what: str = "what is waited for") -> None:
    """Wait until something is so; a Redis that does not answer yet does not count. Fails, naming it."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if is_so():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
        time.sleep(0.05)


async def until(
    is_so: Callable[[], bool | Awaitable[bool]], timeout: float = 20, what: str = "what is waited for"
) -> None:
    """The same without blocking the loop, for questions that may themselves have to be awaited."""
    try:
        async with asyncio.timeout(timeout):
            while not await _answer(is_so()):  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {timeout:.0f} s: {what}") from None


async def _answer(said: bool | Awaitable[bool]) -> bool:
    return said if isinstance(said, bool) else await said
