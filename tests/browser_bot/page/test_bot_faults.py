"""Everything of a stage that can die, hang or be stopped: it is noticed, and cleared away at once."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from recording_farm.browser_bot.errors import PageLostError
from recording_farm.browser_bot.page import bot as bot_module
from recording_farm.browser_bot.page.bot import PROBE_PERIOD, PROBES_MISSED, Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.page_log import MAX_KEPT_LINES
from recording_farm.browser_bot.stage.process_usage import read_usage
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.browser_bot.sites import Answer, Site, answer, hang, open_site
from testkit.machine.processes import below, our_children, programs_of
from testkit.network.ports import free_port
from testkit.waiting import until

READY = "<body>here</body><script>console.log('START_RECORDING')</script>"
TEARDOWN_SECONDS = 3.0
TEARDOWN_SECONDS_BESIDE_OTHERS = 10.0
"""Where other tests have the processors: it does not wait for what is stopped, which would be forever."""
NOTICE_SECONDS = 3.0
"""On a busy machine; what is found by asking alone takes ten."""
# A page's patience in tests that need not wait for the real 10 s.
QUICK_PERIOD = 0.4

Victim = Callable[[Stage], list[int]]


def renderers(stage: Stage) -> list[int]:
    return [child.pid for child in below(stage.browser.pid, word="--type=renderer")]


VICTIMS: dict[str, Victim] = {
    "renderer": renderers,
    "browser": lambda stage: [stage.browser.pid],
    "driver": lambda stage: [stage.browser.driver_pid],
    "display": lambda stage: [stage.display.server.pid],
    "sound": lambda stage: [stage.audio.daemon.pid],
}


def signal_all(pids: list[int], sign: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, sign)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as site:
        yield site


async def joined(stage: Stage, url: str) -> Bot:
    bot = Bot(stage.browser, PageContract.CONSOLE)
    await bot.join(url, seconds=10, tries=1)
    return bot


def is_online(bot: Bot) -> bool | None:
    return None if bot.page_state is None else bot.page_state.online


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot_module, "PROBE_PERIOD", QUICK_PERIOD)


@pytest.mark.long
async def test_page_whose_script_hangs_should_be_lost_after_ten_seconds(stages: Path, site: Site) -> None:
    hanging = READY + "<script>setTimeout(() => { for (;;); }, 500)</script>"
    loop = asyncio.get_running_loop()
    async with open_stage(320, 180, 30) as stage:
        assert stage.directory.parent == stages
        bot = await joined(stage, site.add("/", hanging))
        began = loop.time()
        with pytest.raises(PageLostError, match="the page's script has hung for 10 s"):
            await asyncio.wait_for(bot.over(), 20)
        assert PROBE_PERIOD * PROBES_MISSED == 10
        assert 10 <= loop.time() - began < 14
        # The page shows nothing any more, and nobody need wait to learn it.
        asked = loop.time()
        assert not await bot.screenshot(stage.directory / "page.png")
        assert loop.time() - asked < 0.1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("victim", ["renderer", "browser", "driver"])
async def test_browser_that_is_stopped_should_be_noticed_and_cleared_away(
    stages: Path, site: Site, victim: str
) -> None:
    loop = asyncio.get_running_loop()
    async with open_stage(320, 180, 30) as stage:
        bot = await joined(stage, site.add("/", READY))
        signal_all(VICTIMS[victim](stage), signal.SIGSTOP)
        with pytest.raises(PageLostError, match="has hung"):
            await asyncio.wait_for(bot.over(), 10)
        closing = loop.time()
    assert loop.time() - closing < TEARDOWN_SECONDS_BESIDE_OTHERS
    await until(lambda: not programs_of(stages) and not our_children(), 5, "nothing is left")


@pytest.mark.long
@pytest.mark.usefixtures("quick", "stages")
@pytest.mark.parametrize("victim", ["browser", "driver"])
@pytest.mark.parametrize(
    ("page", "words"), [(hang, "does not answer"), ("<body>soon", "has hung")], ids=["loads", "gets ready"]
)
async def test_browser_that_is_stopped_during_the_join_should_be_no_fault_of_the_page(
    site: Site, victim: str, page: Answer | str, words: str
) -> None:
    async with open_stage(320, 180, 30) as stage:
        bot = Bot(stage.browser, PageContract.CONSOLE)
        joining = asyncio.ensure_future(bot.join(site.add("/", page), seconds=1.5, tries=1))
        await until(lambda: site.asked.count("/") > 0, 10, "the page is asked for")
        await asyncio.sleep(0.5)
        signal_all(VICTIMS[victim](stage), signal.SIGSTOP)
        with pytest.raises(PageLostError, match=words):
            await asyncio.wait_for(joining, 10)


@pytest.mark.parametrize("victim", ["display", "sound"])
async def test_display_or_sound_that_is_stopped_should_be_noticed_and_cleared_away(
    stages: Path, victim: str
) -> None:
    loop = asyncio.get_running_loop()
    async with open_stage(320, 180, 30) as stage:
        death = asyncio.ensure_future(stage.died())
        await asyncio.sleep(1.5)
        assert not death.done()
        signal_all(VICTIMS[victim](stage), signal.SIGSTOP)
        assert "has hung for 4 s" in str(await asyncio.wait_for(death, 10))
        closing = loop.time()
    assert loop.time() - closing < TEARDOWN_SECONDS_BESIDE_OTHERS
    await until(lambda: not programs_of(stages) and not our_children(), 5, "nothing is left")


@pytest.mark.exact
async def test_stage_of_which_everything_is_stopped_should_be_cleared_away(stages: Path) -> None:
    loop = asyncio.get_running_loop()
    async with open_stage(320, 180, 30) as stage:
        for victim in VICTIMS.values():
            signal_all(victim(stage), signal.SIGSTOP)
        closing = loop.time()
    assert loop.time() - closing < TEARDOWN_SECONDS
    await until(lambda: not programs_of(stages) and not our_children(), 5, "nothing is left")


@pytest.mark.usefixtures("stages")
@pytest.mark.parametrize("victim", ["renderer", "browser", "driver", "tab"])
async def test_death_of_the_page_should_be_noticed_at_once(site: Site, victim: str) -> None:
    async with open_stage(320, 180, 30) as stage:
        bot = await joined(stage, site.add("/", READY))
        over = asyncio.ensure_future(bot.over())
        await asyncio.sleep(0)
        if victim == "tab":
            await stage.browser.page.close()
        else:
            signal_all(VICTIMS[victim](stage), signal.SIGKILL)
        with pytest.raises(PageLostError, match=r"crashed|was closed|the browser has died"):
            await asyncio.wait_for(over, NOTICE_SECONDS)


@pytest.mark.usefixtures("stages")
@pytest.mark.parametrize("going", ["location = 'AWAY'", "location.reload()"], ids=["elsewhere", "anew"])
async def test_page_that_goes_to_an_address_that_does_not_load_should_be_lost(site: Site, going: str) -> None:
    script = going.replace("AWAY", f"http://127.0.0.1:{free_port()}/")
    async with open_stage(320, 180, 30) as stage:
        bot = await joined(stage, site.add("/", READY))
        over = asyncio.ensure_future(bot.over())
        # As if its server was gone.
        await stage.browser.context.set_offline(script == going)
        await stage.browser.page.evaluate(f"void setTimeout(() => {{ {script} }})")
        with pytest.raises(PageLostError, match="an address that does not load"):
            await asyncio.wait_for(over, 10)


@pytest.mark.usefixtures("stages")
async def test_navigation_that_leaves_the_page_there_should_not_lose_it(site: Site) -> None:
    nothing = site.add("/nothing", answer("", status="204 No Content"))
    async with open_stage(320, 180, 30) as stage:
        bot = await joined(stage, site.add("/", READY))
        over = asyncio.ensure_future(bot.over())
        await stage.browser.page.evaluate(
            f"""void setTimeout(() => {{
                location = '{nothing}';
                const frame = document.createElement('iframe');
                frame.src = 'http://127.0.0.1:{free_port()}/frame';
                document.body.append(frame);
            }})"""
        )
        await until(lambda: "/nothing" in site.asked, 10, "it was asked for")
        await until(lambda: any("/frame" in line for line in bot.page_log), 10, "the frame has failed")
        done, _ = await asyncio.wait((over,), timeout=1)
        assert not done
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)


@pytest.mark.long
@pytest.mark.usefixtures("quick", "stages")
@pytest.mark.parametrize(
    "page",
    [
        # Busy for 1.2 s at a time; it may be for 2 s.
        "setInterval(() => { const end = Date.now() + 1200; while (Date.now() < end); }, 1500)",
        "setInterval(() => { debugger; }, 100)",
        "setTimeout(() => { location = '/slow' }, 300)",
        "setInterval(() => { location.reload() }, 700)",
        "setInterval(() => alert('stop'), 500)",
    ],
    ids=["busy", "debugger", "navigation", "reloads", "dialogs"],
)
async def test_page_that_lives_should_not_be_mistaken(site: Site, page: str) -> None:
    site.add("/slow", answer(READY, after=3))
    async with open_stage(320, 180, 30) as stage:
        bot = await joined(stage, site.add("/", f"{READY}<script>{page}</script>"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bot.over(), 5)


@pytest.mark.usefixtures("quick", "stages")
async def test_frame_that_hangs_should_not_be_mistaken_for_the_page(site: Site) -> None:
    # Another site: it has a process of its own.
    frame = site.url("/frame", host="localhost")
    site.add("/frame", "<script>setTimeout(() => { for (;;); }, 300)</script>")
    async with open_stage(320, 180, 30) as stage:
        bot = await joined(stage, site.add("/", f"{READY}<iframe src='{frame}'></iframe>"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bot.over(), 1.5 * QUICK_PERIOD * PROBES_MISSED)
        assert "/frame" in site.asked


@pytest.mark.usefixtures("quick", "stages")
async def test_page_that_says_offline_should_be_heard(site: Site) -> None:
    async with open_stage(320, 180, 30) as stage:
        bot = await joined(stage, site.add("/", READY))
        over = asyncio.ensure_future(bot.over())
        await stage.browser.context.set_offline(True)
        await until(lambda: is_online(bot) is False, 5, "the page says offline")
        await stage.browser.context.set_offline(False)
        await until(lambda: is_online(bot) is True, 5, "the page says online")
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)


@pytest.mark.usefixtures("stages")
async def test_diary_should_have_what_the_page_did_last(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "recording_farm.browser_bot.page.page_log")
    page = """<script>for (let i = 0; i < 3000; i++) console.log("line", i);
        fetch("http://127.0.0.1:1/gone").catch(() => console.log("START_RECORDING"))</script>"""
    async with open_stage(320, 180, 30) as stage:
        bot = await joined(stage, site.add("/", page))
        lines = bot.page_log
    assert len(lines) == MAX_KEPT_LINES
    assert not [line for line in lines if line.endswith("'line 0'")]
    assert [line for line in lines if "could not load 'http://127.0.0.1:1/gone'" in line]
    # Chromium asks for the page's icon at some time.
    assert [line for line in lines[-3:] if line.endswith("page log: 'START_RECORDING'")]


@pytest.mark.usefixtures("stages")
async def test_stage_should_tell_what_its_processes_use() -> None:
    async with open_stage(320, 180, 30) as stage:
        usage = stage.usage()
        assert {"Xorg", "pulseaudio", "chromium"} <= {process.name for process in usage}
        assert {process.pid for process in usage} == {
            *VICTIMS["display"](stage), *VICTIMS["sound"](stage), *VICTIMS["driver"](stage),
            stage.browser.pid,
            *(child.pid for child in psutil.Process(stage.browser.pid).children(recursive=True)),
        }  # fmt: skip
        assert 100e6 < stage.memory() < 2e9
        before = stage.memory()
        await stage.browser.page.evaluate("void (window.kept = new Uint8Array(2e8).fill(1))")
        assert stage.memory() - before == pytest.approx(2e8, rel=0.5)
        assert sum(process.cpu_seconds for process in usage) > 0.1
    # Of what has ended there is nothing to tell.
    assert read_usage(process.pid for process in usage) == []
