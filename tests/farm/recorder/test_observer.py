"""What the observer sees of a stage."""

import logging
from pathlib import Path

import pytest

from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from recording_farm.browser_bot.stage.x_connection import Connection, connected
from recording_farm.encoder.formats import Format
from recording_farm.encoder.takes.command import Source
from recording_farm.encoder.takes.sequence import TakeSequence
from recording_farm.farm.recorder.observer import Observer
from testkit.browser_bot.x_windows import show_window
from testkit.waiting import until


async def show_and_hide(connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    """Show a window that passes by window managers; it is taken off when this returns."""
    caplog.clear()
    show_window(connection, is_override_redirect=True)
    await until(lambda: "hiding it" in caplog.text, 20, "the window is taken off")


def observer_of(stage: Stage, spool: Path) -> Observer:
    source = Source(stage.display.name, stage.display.authority, stage.audio.server, stage.audio.source)
    fmt = Format(width=320, height=180)
    bot = Bot(stage.browser, PageContract.PLAIN)
    return Observer(stage, bot, TakeSequence(source, spool, fmt), fmt, spool)


async def test_window_should_be_found_while_it_is_recorded_and_not_for_what_was_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with open_stage(320, 180, 30) as stage, connected(stage.display) as connection:
        await show_and_hide(connection, caplog)
        observer = observer_of(stage, tmp_path)
        assert not (await observer.observe()).foreign_window
        await show_and_hide(connection, caplog)
        assert (await observer.observe()).foreign_window
        assert not (await observer.observe()).foreign_window
