import asyncio
import os
import signal
from pathlib import Path

import pytest

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.stage import display
from recording_farm.browser_bot.stage.display import MARGIN, open_display, screen_mode, xauthority
from testkit.machine.processes import our_children, programs_of, run

SIDES = (16, 17, 320, 481, 720, 1080, 1279, 1280, 1920)
RATES = (15, 24, 25, 29, 30, 50, 60)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("width", SIDES)
def test_mode_should_refresh_at_exactly_the_frame_rate(width: int, fps: int) -> None:
    for height in SIDES:
        mode = screen_mode(width, height, fps)
        assert mode.pixel_clock_khz * 1000 == mode.total_width * mode.total_height * fps
        assert 11_000 <= mode.pixel_clock_khz <= 300_000


@pytest.mark.parametrize("width", SIDES)
def test_screen_should_be_larger_than_the_region(width: int) -> None:
    for height in SIDES:
        mode = screen_mode(width, height, 30)
        assert width + MARGIN <= mode.width < mode.total_width - 16
        assert height + MARGIN <= mode.height < mode.total_height - 4
        assert mode.width % 8 == 0


def test_modeline_should_name_clock_sizes_and_totals() -> None:
    assert screen_mode(1280, 720, 30).modeline() == (
        'Modeline "stage" 29.700 1296 1304 1312 1320 736 737 740 750'
    )


def test_xauthority_should_give_the_cookie_to_every_display() -> None:
    assert xauthority(b"0123456789abcdef") == (
        b"\xff\xff" + b"\0\0" + b"\0\0" + b"\0\x12MIT-MAGIC-COOKIE-1" + b"\0\x100123456789abcdef"
    )


async def test_display_should_open_to_the_cookie_only(short_path: Path) -> None:
    async with open_display(short_path, 320, 180, 30) as opened:
        assert opened.authority.stat().st_mode & 0o777 == 0o600
        code, output, _ = await run("xdpyinfo", env=opened.variables)
        assert code == 0
        assert b"640x480 pixels" in output

        wrong = short_path / "wrong"
        wrong.write_bytes(xauthority(b"x" * 16))
        for authority in (wrong, short_path / "missing"):
            environment = {"DISPLAY": opened.name, "XAUTHORITY": str(authority), "HOME": str(short_path)}
            code, _, complaints = await run("xdpyinfo", env=environment)
            assert code != 0
            assert "unable to open display" in complaints
    assert our_children() == []
    assert programs_of(short_path) == []


@pytest.mark.parametrize(("width", "height", "fps"), [(16, 16, 15), (1920, 1920, 60), (720, 1280, 30)])
async def test_display_should_open_in_every_size(short_path: Path, width: int, height: int, fps: int) -> None:
    async with open_display(short_path, width, height, fps) as opened:
        _, output, _ = await run("xdpyinfo", env=opened.variables)
        assert f"{opened.mode.width}x{opened.mode.height} pixels".encode() in output
        # No mode of the driver's own: it would have another refresh rate.
        _, modes, _ = await run("xrandr", env=opened.variables)
        rates = [float(line.split()[1].rstrip("*+")) for line in modes.decode().splitlines() if "*" in line]
        assert rates == [fps]


async def test_death_of_the_server_should_be_noticed(short_path: Path) -> None:
    async with open_display(short_path, 320, 180, 30) as opened:
        death = asyncio.ensure_future(opened.server.died())
        await asyncio.sleep(0.05)
        assert not death.done()
        os.kill(opened.server.pid, signal.SIGKILL)
        assert "Xorg ended with -9" in str(await asyncio.wait_for(death, 2))


async def test_bad_configuration_should_be_reported_in_the_servers_words(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "xorg_configuration", lambda _: 'Section "Nonsense"\n')
    with pytest.raises(StageError, match=r"(?s)Xorg ended with 1: .*Nonsense.*not a valid section"):
        async with open_display(short_path, 320, 180, 30):
            pass
    assert our_children() == []


async def test_server_that_is_never_ready_should_be_given_up(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = short_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o700)
    monkeypatch.setattr(display, "xorg_path", lambda: silent)
    monkeypatch.setattr(display, "START_TIMEOUT", 0.3)
    with pytest.raises(StageError, match="not ready"):
        async with open_display(short_path, 320, 180, 30):
            pass
    assert our_children() == []


async def test_two_displays_should_have_two_numbers(short_path: Path) -> None:
    directories = [short_path / name for name in ("a", "b")]
    for directory in directories:
        directory.mkdir()
    one, two = (open_display(directory, 320, 180, 30) for directory in directories)
    displays = await asyncio.gather(one.__aenter__(), two.__aenter__())
    try:
        assert displays[0].name != displays[1].name
        code, _, _ = await run(
            "xdpyinfo", env={"DISPLAY": displays[0].name, "XAUTHORITY": str(displays[1].authority)}
        )
        assert code != 0
    finally:
        await asyncio.gather(one.__aexit__(None, None, None), two.__aexit__(None, None, None))
