"""Programs that no longer answer are told from those that are only slow."""

import asyncio
import time
from pathlib import Path

from recording_farm.browser_bot.stage.hang_check import probe_socket, wait_until_hung


async def test_stalled_machine_should_not_count_as_silence() -> None:
    answered = 0

    async def ask() -> None:
        nonlocal answered
        await asyncio.sleep(0.15)
        answered += 1

    quiet = asyncio.ensure_future(wait_until_hung(ask, 0.1, 5))
    await asyncio.sleep(0.2)
    # The whole process stands still for longer than the silence may last.
    time.sleep(0.8)  # noqa: ASYNC251
    done, _ = await asyncio.wait((quiet,), timeout=0.5)
    assert not done
    quiet.cancel()
    await asyncio.gather(quiet, return_exceptions=True)
    assert answered > 2


async def test_server_that_accepts_and_says_nothing_should_be_found_to_hang(short_path: Path) -> None:
    # One that is gone is another matter.
    assert not await probe_socket(short_path / "gone", b"hello")

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        writer.close()

    server = await asyncio.start_unix_server(say_nothing, short_path / "mute")
    async with server:
        await asyncio.wait_for(
            wait_until_hung(lambda: probe_socket(short_path / "mute", b"hello"), 0.1, 3), 2
        )
        await asyncio.sleep(0.6)
