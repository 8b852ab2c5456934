"""What breaks before the first take."""

import asyncio
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.encoder.formats import AudioExport, Format
from recording_farm.farm.recorder.listener import EndReason, Outcome
from recording_farm.farm.recorder.opened_stage import open_for
from recording_farm.farm.recorder.plan import Plan
from recording_farm.farm.recorder.recorder import Recorder
from recording_farm.farm.spool.spool import Spool
from testkit.browser_bot.sites import open_site
from testkit.machine.processes import below, wait_until_none
from testkit.recorders import KeepingListener, no_orders
from testkit.waiting import until

pytestmark = pytest.mark.long

# Ready after a while, so that there is one in which it is not.
PAGE = "<body>soon<script>setTimeout(() => console.log('START_RECORDING'), 3000)</script>"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("pulseaudio", "PulseAudio ended with -9"),
        ("Xorg", "Xorg ended with -9"),
        ("chromium", "the page was closed|the browser has died"),
    ],
)
async def test_stage_that_breaks_before_the_first_take_should_be_replaced(
    tmp_path: Path, name: str, fault: str
) -> None:
    listener = KeepingListener()
    spool = Spool(tmp_path / "spool", Format(width=320, height=180, audio_only=AudioExport()))
    async with open_site() as site:
        plan = Plan(site.add("/", PAGE), spool.format, contract=PageContract.CONSOLE, max_seconds=1)
        recording = asyncio.create_task(
            Recorder(plan, spool, tmp_path / "evidence", no_orders(), listener).run()
        )
        await until(lambda: "/" in site.asked, 30, "the page is asked for")
        below(name=name)[0].kill()
        outcome = await recording
    assert outcome == Outcome(EndReason.MAX_DURATION, None, started=True)
    (told,) = listener.faults
    assert re.search(fault, told)
    assert len(listener.takes) == 1


@pytest.mark.parametrize("victim", ["browser", "driver"])
async def test_warm_stage_whose_browser_hangs_should_be_replaced(tmp_path: Path, victim: str) -> None:
    listener = KeepingListener()
    spool = Spool(tmp_path / "spool", Format(width=320, height=180, audio_only=AudioExport()))
    async with open_site() as site:
        plan = Plan(site.add("/", PAGE), spool.format, contract=PageContract.CONSOLE, max_seconds=1)
        warm = await open_for(plan.stage)
        browser = warm.stage.browser
        if victim == "browser":
            os.killpg(browser.pid, signal.SIGSTOP)
        else:
            os.kill(browser.driver_pid, signal.SIGSTOP)
        outcome = await Recorder(plan, spool, tmp_path / "evidence", no_orders(), listener, warm).run()
    assert outcome == Outcome(EndReason.MAX_DURATION, None, started=True)
    assert (listener.faults, len(listener.takes)) == ([], 1)
    assert wait_until_none() == []


async def test_warm_stage_of_another_size_should_hand_its_driver_on(tmp_path: Path) -> None:
    listener = KeepingListener()
    spool = Spool(tmp_path / "spool", Format(width=320, height=180))
    async with open_site() as site:
        plan = Plan(site.add("/", PAGE), spool.format, contract=PageContract.CONSOLE, max_seconds=1)
        warm = await open_for(replace(plan.stage, width=640, height=360))
        driver = warm.stage.browser.driver_pid
        recording = asyncio.create_task(
            Recorder(plan, spool, tmp_path / "evidence", no_orders(), listener, warm).run()
        )
        await until(lambda: bool(listener.takes), 30, "it is recorded")
        drivers = {process.pid for process in below() if Path(process.exe()).name == "node"}
        outcome = await recording
    assert (drivers, outcome) == ({driver}, Outcome(EndReason.MAX_DURATION, None, started=True))
    assert (listener.faults, len(listener.takes)) == ([], 1)
    assert not warm.stage.directory.exists()
    assert wait_until_none() == []
