import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from recording_farm.browser_bot.stage.autogroup import LOW, nice_of
from recording_farm.browser_bot.stage.browser import (
    UNWANTED_FEATURES,
    browser_command,
    chromium_switches,
    write_launcher,
)
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.browser_bot.audio import listen, loudest_frequency
from testkit.browser_bot.pictures import grab
from testkit.browser_bot.sites import Site, open_site
from testkit.machine.processes import programs_of, run

WIDTH, HEIGHT = 320, 180
GREEN, BLUE = (0, 255, 0), (0, 0, 255)
FRAMED = """<body style="margin:0;background:rgb(0,0,255)">
<div style="position:fixed;inset:0;border:2px solid rgb(0,255,0)">"""

ASK = """async () => {
    const soon = promise => Promise.race([promise.then(() => "given", error => error.name),
                                          new Promise(resolve => setTimeout(() => resolve("asking"), 4000))]);
    return {
        camera: await soon(navigator.mediaDevices.getUserMedia({ video: true, audio: true })),
        screen: navigator.mediaDevices.getDisplayMedia ? "can ask" : "cannot ask",
        place: await soon(new Promise((given, refused) =>
            navigator.geolocation.getCurrentPosition(given, error => refused({ name: "refused" })))),
        notices: await Promise.race([Notification.requestPermission(),
                                     new Promise(resolve => setTimeout(() => resolve("asking"), 4000))]),
    };
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with open_site() as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with open_stage(WIDTH, HEIGHT, 30) as stage:
        yield stage


@pytest.mark.parametrize(("width", "height"), [(16, 16), (720, 1280), (1920, 1080)])
async def test_page_should_fill_exactly_the_region(width: int, height: int) -> None:
    async with open_stage(width, height, 30) as stage:
        await stage.browser.page.goto(f"data:text/html,{FRAMED}")
        sizes = await stage.browser.page.evaluate("[innerWidth, innerHeight, devicePixelRatio]")
        assert sizes == [width, height, 1]
        await asyncio.sleep(0.3)
        picture = await grab(stage.display, width, height)
        corners = {picture.at(x, y) for x in (0, width - 1) for y in (0, height - 1)}
        within = {picture.at(x, y) for x in (2, width - 3) for y in (2, height - 3)}
        assert (corners, within) == ({GREEN}, {BLUE})
        assert picture.colors() == {GREEN, BLUE}


@pytest.mark.asyncio(loop_scope="module")
async def test_size_should_last_over_pages_and_sites(stage: Stage, site: Site) -> None:
    for url in (site.add("/one", FRAMED), site.url("/missing"), f"data:text/html,{FRAMED}"):
        await stage.browser.page.goto(url)
        assert await stage.browser.page.evaluate("[innerWidth, innerHeight]") == [WIDTH, HEIGHT]


@pytest.mark.asyncio(loop_scope="module")
async def test_page_should_be_told_that_a_program_drives_it(stage: Stage) -> None:
    assert await stage.browser.page.evaluate("navigator.webdriver") is True


@pytest.mark.asyncio(loop_scope="module")
async def test_requests_for_permission_should_show_no_prompt(stage: Stage, site: Site) -> None:
    await stage.browser.page.goto(site.add("/ask", FRAMED))
    answers = await stage.browser.page.evaluate(ASK)
    assert "asking" not in answers.values()
    assert answers["camera"] in {"NotFoundError", "NotAllowedError"}
    assert (answers["place"], answers["notices"], answers["screen"]) == ("refused", "denied", "cannot ask")
    assert (await grab(stage.display, WIDTH, HEIGHT)).colors() == {GREEN, BLUE}


@pytest.mark.asyncio(loop_scope="module")
async def test_sound_should_play_by_itself_into_the_stages_sink(stage: Stage, site: Site) -> None:
    page = """<script>const audio = new AudioContext(); const tone = audio.createOscillator();
        tone.frequency.value = 700; tone.connect(audio.destination); tone.start()</script>"""
    await stage.browser.page.goto(site.add("/tone", page))
    heard = 0.0
    async with asyncio.timeout(10):
        while heard != pytest.approx(700, abs=5):
            heard = loudest_frequency(await listen(stage.audio, 0.4))
    _, inputs, _ = await run("pactl", "list", "sink-inputs", env=stage.audio.variables)
    assert 'application.name = "Chromium"' in inputs.decode()
    assert "48000Hz" in inputs.decode()
    await stage.browser.page.goto("about:blank")


@pytest.mark.asyncio(loop_scope="module")
async def test_window_that_the_page_opens_unasked_should_be_blocked(stage: Stage, site: Site) -> None:
    opener = f"{FRAMED}<script>console.log(window.open('/other') === null)</script>"
    async with stage.browser.page.expect_console_message() as message:
        await stage.browser.page.goto(site.add("/popup", opener))
    assert (await message.value).text == "true"
    assert len(stage.browser.context.pages) == 1
    assert "/other" not in site.asked


@pytest.mark.asyncio(loop_scope="module")
async def test_page_should_be_visible_and_drawn_at_the_frame_rate(stage: Stage) -> None:
    assert await stage.browser.page.evaluate("document.visibilityState") == "visible"
    thirty_frames = """() => new Promise(resolve => { let frames = 0; const began = performance.now();
        const count = () => { frames += 1;
            frames < 30 ? requestAnimationFrame(count) : resolve(performance.now() - began) };
        requestAnimationFrame(count) })"""
    # A busy machine may draw fewer, but none draws more.
    assert 900 < await stage.browser.page.evaluate(thirty_frames) < 3000


async def test_no_child_of_a_stage_should_get_secrets_of_ours(
    stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_API_KEYS", "acme:very-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the operator")
    async with open_stage(WIDTH, HEIGHT, 30) as stage:
        driver = psutil.Process(stage.browser.driver_pid)
        programs = [*programs_of(stage.directory), driver]
        assert {"Xorg", "pulseaudio", "chromium"} <= {program.name() for program in programs}
        for program in programs:
            told = program.environ()
            assert not {"FARM_API_KEYS", "AWS_SECRET_ACCESS_KEY"} & told.keys(), program.cmdline()
        assert stage.directory.parent == stages
        assert stage.directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.asyncio(loop_scope="module")
async def test_browser_should_get_less_processor_time_than_its_recorder(stage: Stage) -> None:
    if (ours := nice_of(os.getpid())) is None:
        pytest.skip("the kernel has no autogroups")
    assert (nice_of(stage.browser.pid), nice_of(stage.display.server.pid)) == (LOW, ours)


def test_launcher_should_not_slow_the_session_that_runs_it(tmp_path: Path) -> None:
    ours = nice_of(os.getpid())
    chromium = tmp_path / "chromium-that-ends"
    chromium.write_text("#!/bin/sh\n")
    chromium.chmod(0o700)
    subprocess.run([write_launcher(tmp_path, browser_command(tmp_path, chromium))], check=True, timeout=10)
    assert nice_of(os.getpid()) == ours


def test_launcher_should_bear_any_path(tmp_path: Path) -> None:
    chromium = tmp_path / "it's a $(browser)"
    launcher = write_launcher(tmp_path, browser_command(tmp_path, chromium))
    assert launcher.read_text().splitlines()[0] == "#!/bin/sh"
    assert "'\"'\"'s a $(browser)' \"$@\"" in launcher.read_text()
    assert os.access(launcher, os.X_OK)


def test_launcher_should_pass_all_on_and_leave_features_out(tmp_path: Path) -> None:
    chromium = tmp_path / "prints its arguments"
    chromium.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    chromium.chmod(0o700)
    said = subprocess.run(
        [
            write_launcher(tmp_path, browser_command(tmp_path, chromium), ["Two:a/1", "Three"]),
            *("--a=$(b) *", "--disable-features=One", "--enable-features=Four", "", "about:blank"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    ).stdout
    without = ",".join(UNWANTED_FEATURES)
    assert said.split("\n") == [
        *("--a=$(b) *", f"--disable-features=One,{without}", "--enable-features=Four,Two:a/1,Three"),
        *("", "about:blank", ""),
    ]


@pytest.mark.asyncio(loop_scope="module")
async def test_browser_should_draw_nothing_but_the_page(stage: Stage, site: Site) -> None:
    await stage.browser.page.goto(site.add("/", "<p>a page</p>"))
    devtools = await stage.browser.context.new_cdp_session(stage.browser.page)
    targets = await devtools.send("Target.getTargets", {"filter": [{}]})
    assert [target["url"] for target in targets["targetInfos"] if target["type"] == "browser_ui"] == []


def test_switches_should_keep_sound_and_sandbox() -> None:
    switches = chromium_switches(640, 360)
    assert "--window-size=640,360" in switches
    assert not [switch for switch in switches if "sandbox" in switch or "mute" in switch]
