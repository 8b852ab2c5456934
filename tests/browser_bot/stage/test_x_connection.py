"""Connections to a display that lives, hangs, dies or refuses."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from recording_farm.browser_bot.stage.display import Display, open_display, xauthority
from recording_farm.browser_bot.stage.pixels import grab_picture, grab_rows
from recording_farm.browser_bot.stage.windows import manage_windows
from recording_farm.browser_bot.stage.x_connection import connected

WIDTH, HEIGHT = 320, 180


@pytest_asyncio.fixture
async def display(tmp_path: Path) -> AsyncIterator[Display]:
    async with open_display(tmp_path, WIDTH, HEIGHT, 30) as display:
        yield display


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_pixels_should_be_read_and_leave_no_descriptor(display: Display) -> None:
    picture = await grab_picture(display, WIDTH, HEIGHT)
    before = descriptors()
    pictures = await asyncio.gather(*(grab_picture(display, WIDTH, HEIGHT) for _ in range(20)))
    assert [len(each) for each in pictures] == [4 * WIDTH * HEIGHT] * 20
    assert set(pictures) == {picture}
    assert descriptors() == before


async def test_display_that_hangs_should_not_outlast_a_time_out(display: Display) -> None:
    before = descriptors()
    async with connected(display) as connection:
        os.kill(display.server.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await connection.run(connection.xcb.core.GetInputFocus().reply)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await grab_rows(display, WIDTH, HEIGHT)
    assert time.monotonic() - began < 5
    assert descriptors() == before
    os.kill(display.server.pid, signal.SIGCONT)
    assert await grab_rows(display, WIDTH, HEIGHT)


async def test_display_that_dies_should_be_an_error_and_no_end_of_ours(display: Display) -> None:
    async with connected(display) as connection, manage_windows(display) as windows:
        os.kill(display.server.pid, signal.SIGKILL)
        await display.server.died()
        with pytest.raises(ConnectionError):
            await connection.run(lambda: connection.xcb.core.GetInputFocus().reply())
        with pytest.raises(OSError, match="refused"):
            await grab_rows(display, WIDTH, HEIGHT)
        assert windows.shown == []


async def test_display_should_have_one_window_manager(display: Display) -> None:
    async with manage_windows(display):
        with pytest.raises(ConnectionError, match="AccessError"):
            async with manage_windows(display):
                raise AssertionError


async def test_wrong_cookie_should_be_refused(display: Display, tmp_path: Path) -> None:
    other = tmp_path / "other"
    # A colon is a byte as any other.
    other.write_bytes(xauthority(b"0123456:89abcdef"))
    with pytest.raises(ConnectionError):
        await grab_rows(replace(display, authority=other), WIDTH, HEIGHT)


async def test_cookie_with_a_colon_should_open_the_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_bytes", lambda _: b"0123456:89ab:\0ef")
    async with open_display(tmp_path, WIDTH, HEIGHT, 30) as display:
        assert await grab_rows(display, WIDTH, HEIGHT)
