"""What breaks in mid-recording, for real, and how the recording goes on."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import av
import psutil
import pytest

from testkit.pages import FIDELITY_PAGE, serve_pages
from testkit.processes import below, wait_until_none
from testkit.running_farm import RunningFarm, faults_of, running_farm, takes_of

RECORDED = 3.0
"""Seconds that are recorded before something breaks, and after."""


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarm]:
    """A farm with one slot, for faults that break one recording only."""
    with running_farm(tmp_path_factory.mktemp("faults")) as farm:
        yield farm
    assert wait_until_none() == []


def processes_of(farm: RunningFarm, name: str) -> list[psutil.Process]:
    """The farm's processes of a program."""
    return below(farm.process.pid, name=name)


def horse_of(farm: RunningFarm) -> psutil.Process:
    """The recorder: whose child ffmpeg is."""
    parent = processes_of(farm, "ffmpeg")[0].parent()
    assert parent is not None
    return parent


def kill_horse(farm: RunningFarm) -> None:
    horse_of(farm).kill()


def kill_chromium(farm: RunningFarm) -> None:
    processes_of(farm, "chromium")[0].kill()


def crash_page(farm: RunningFarm) -> None:
    for process in below(farm.process.pid, word="--type=renderer"):
        process.kill()


def kill_display(farm: RunningFarm) -> None:
    processes_of(farm, "Xorg")[0].kill()


def kill_sound(farm: RunningFarm) -> None:
    processes_of(farm, "pulseaudio")[0].kill()


def kill_encoder(farm: RunningFarm) -> None:
    max(processes_of(farm, "ffmpeg"), key=lambda process: process.cpu_times().user).kill()


FAULTS: dict[str, Callable[[RunningFarm], None]] = {
    "encoder": kill_encoder,
    "page": crash_page,
    "browser": kill_chromium,
    "display": kill_display,
    "sound": kill_sound,
    "horse": kill_horse,
}
MAX_GAP = {"encoder": 2.5, "page": 5.0, "browser": 5.0, "display": 6.0, "sound": 6.0, "horse": 6.0}
"""Seconds from the fault to the next take (on a quiet machine; see `patience`)."""


def patience() -> float:
    """How much longer things may take here, because others use this machine too."""
    return 1.0 + os.getloadavg()[0] / (os.cpu_count() or 1)


def takes_began(recording: dict[str, Any]) -> list[datetime]:
    return [
        datetime.fromisoformat(entry["time"])
        for entry in recording["timeline"]
        if entry["event"] == "take_began"
    ]


def wait_for_take(farm: RunningFarm, recording_id: str, number: int, timeout: float) -> dict[str, Any]:
    """Wait until a take has begun, counted from 1."""
    deadline = time.monotonic() + timeout
    while True:
        recording = farm.wait_for(recording_id, "RECORDING", timeout=timeout)
        if len(takes_began(recording)) >= number:
            return recording
        assert time.monotonic() < deadline, (recording["timeline"], farm.log()[-3000:])
        time.sleep(0.1)


def duration(farm: RunningFarm, recording: dict[str, Any], target: Path) -> float:
    with farm.client.stream("GET", str(recording["download_url"]), auth=None) as answer:
        target.write_bytes(b"".join(answer.iter_bytes()))
    with av.open(str(target)) as file:
        for _ in file.decode(video=0):
            pass
        assert file.duration is not None
        return file.duration / 1e6


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=() if name in {"encoder", "horse"} else pytest.mark.long) for name in FAULTS],
)
def test_recording_should_go_on_after_a_fault(
    farm: RunningFarm, pages: str, tmp_path: Path, fault: str
) -> None:
    started = farm.start(url=f"{pages}/page.html")
    wait_for_take(farm, started["id"], 1, 60)
    time.sleep(RECORDED)
    broke = time.time()
    FAULTS[fault](farm)
    recording = wait_for_take(farm, started["id"], 2, 60)
    gap = takes_began(recording)[1].timestamp() - broke
    time.sleep(RECORDED)
    farm.order(started["id"], "stop")
    recording = farm.wait_for(started["id"], "UPLOADED")
    faults = faults_of(recording)
    assert len(faults) == 1
    assert takes_of(recording) == 2
    assert recording["stop_reason"]["reason"] == "API_CALL"
    assert recording["error"] is None
    length = duration(farm, recording, tmp_path / "file.mp4")
    # All but the gap, and the last two seconds of what was killed.
    assert length > 2 * RECORDED - 2.2
    assert gap < MAX_GAP[fault] * patience()
    assert list((farm.data_dir / "spool").iterdir()) == []
    print(f"{fault}: next take after {gap:.2f} s, {length:.2f} s in the file; {faults[0]}")


@pytest.mark.long
def test_third_fault_in_five_minutes_should_end_it_and_keep_what_there_is(
    farm: RunningFarm, pages: str
) -> None:
    started = farm.start(url=f"{pages}/page.html")
    for number in (1, 2, 3):
        wait_for_take(farm, started["id"], number, 60)
        time.sleep(1.5)
        (kill_horse if number == 2 else crash_page)(farm)
    recording = farm.wait_for(started["id"], "UPLOADED")
    assert recording["stop_reason"]["reason"] == "INTERNAL_ERROR"
    assert recording["error"]["code"] == "recording_failed"
    assert takes_of(recording) == 3


@pytest.mark.long
def test_paused_recording_should_stay_paused_when_its_recorder_is_killed(
    farm: RunningFarm, pages: str
) -> None:
    started = farm.start(url=f"{pages}/page.html")
    wait_for_take(farm, started["id"], 1, 60)
    time.sleep(RECORDED)
    farm.order(started["id"], "pause")
    farm.wait_for(started["id"], "PAUSED")
    # The take that waits is loaded.
    horse_of(farm).kill()
    deadline = time.monotonic() + 30
    while not processes_of(farm, "chromium"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(3)
    recording = farm.wait_for(started["id"], "PAUSED")
    assert len(takes_began(recording)) == 1
    farm.order(started["id"], "resume")
    recording = wait_for_take(farm, started["id"], 2, 30)
    time.sleep(RECORDED)
    farm.order(started["id"], "stop")
    recording = farm.wait_for(started["id"], "UPLOADED")
    assert takes_of(recording) == 2


def test_farm_that_was_killed_should_go_on_with_its_recordings(pages: str, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", FARM_SLOTS="2") as farm:
        going, over = (farm.start(url=f"{pages}/page.html", meeting_id=name) for name in ("a", "b"))
        assert {wait_for_take(farm, each["id"], 1, 60)["slot"] for each in (going, over)} == {1, 2}
        time.sleep(RECORDED)
        farm.order(over["id"], "stop")
        tree = [*psutil.Process(farm.process.pid).children(recursive=True), psutil.Process(farm.process.pid)]
        for process in tree:
            with suppress(psutil.NoSuchProcess):  # it dies with its parent
                process.kill()
        psutil.wait_procs(tree, timeout=10)
    assert wait_until_none() == []
    with running_farm(tmp_path / "data", FARM_SLOTS="2") as farm:
        assert wait_for_take(farm, going["id"], 2, 60)["slot"] in {1, 2}
        time.sleep(RECORDED)
        farm.order(going["id"], "stop")
        for each in (going, over):
            recording = farm.wait_for(each["id"], "UPLOADED")
            assert duration(farm, recording, tmp_path / f"{each['id']}.mp4") > RECORDED - 2.2
        assert takes_of(recording) >= 1


@pytest.mark.long
def test_recording_whose_meeting_is_gone_should_be_cut_and_uploaded(tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", FARM_JOIN_SECONDS="2", FARM_JOIN_TRIES="1") as farm:
        with serve_pages(FIDELITY_PAGE.parent) as pages:
            started = farm.start(url=f"{pages}/page.html")
            wait_for_take(farm, started["id"], 1, 60)
            time.sleep(RECORDED)
        kill_horse(farm)
        recording = farm.wait_for(started["id"], "UPLOADED", timeout=90)
        assert recording["stop_reason"]["reason"] == "INTERNAL_ERROR"
        assert recording["file_size"] > 0
