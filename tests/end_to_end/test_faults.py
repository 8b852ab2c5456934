"""What breaks in mid-recording, for real, and how the recording goes on."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from testkit.encoder.films import decoded_seconds
from testkit.machine.load import patience
from testkit.machine.processes import below, encoder, wait_until_none
from testkit.pages import FIDELITY_PAGE, serve_pages
from testkit.running_farm import (
    RECORDED,
    RunningFarm,
    faults_of,
    running_farm,
    takes_began,
    takes_of,
)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarm]:
    """A farm with one slot, for faults that break one recording only."""
    with running_farm(tmp_path_factory.mktemp("faults")) as farm:
        yield farm
    assert wait_until_none() == []


def kill_horse(farm: RunningFarm) -> None:
    farm.recorder().kill()


def kill_chromium(farm: RunningFarm) -> None:
    farm.processes("chromium")[0].kill()


def crash_page(farm: RunningFarm) -> None:
    for process in below(farm.process.pid, word="--type=renderer"):
        process.kill()


def kill_display(farm: RunningFarm) -> None:
    farm.processes("Xorg")[0].kill()


def kill_sound(farm: RunningFarm) -> None:
    farm.processes("pulseaudio")[0].kill()


def kill_encoder(farm: RunningFarm) -> None:
    encoder(farm.process.pid).kill()


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


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=() if name in {"encoder", "horse"} else pytest.mark.long) for name in FAULTS],
)
def test_recording_should_go_on_after_a_fault(
    farm: RunningFarm, pages: str, tmp_path: Path, fault: str
) -> None:
    started = farm.start(url=f"{pages}/page.html")
    farm.wait_for_take(started["id"], 1, 60)
    time.sleep(RECORDED)
    broke = time.time()
    FAULTS[fault](farm)
    recording = farm.wait_for_take(started["id"], 2, 60)
    gap = takes_began(recording)[1].timestamp() - broke
    time.sleep(RECORDED)
    farm.order(started["id"], "stop")
    recording = farm.wait_for(started["id"], "UPLOADED")
    faults = faults_of(recording)
    assert len(faults) == 1
    assert takes_of(recording) == 2
    assert recording["stop_reason"]["reason"] == "API_CALL"
    assert recording["error"] is None
    length = decoded_seconds(farm.download(recording, tmp_path / "file.mp4"))
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
        farm.wait_for_take(started["id"], number, 60)
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
    farm.wait_for_take(started["id"], 1, 60)
    time.sleep(RECORDED)
    farm.order(started["id"], "pause")
    farm.wait_for(started["id"], "PAUSED")
    # The take that waits is loaded.
    farm.recorder().kill()
    deadline = time.monotonic() + 30
    while not farm.processes("chromium"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(3)
    recording = farm.wait_for(started["id"], "PAUSED")
    assert len(takes_began(recording)) == 1
    farm.order(started["id"], "resume")
    recording = farm.wait_for_take(started["id"], 2, 30)
    time.sleep(RECORDED)
    farm.order(started["id"], "stop")
    recording = farm.wait_for(started["id"], "UPLOADED")
    assert takes_of(recording) == 2


@pytest.mark.long
def test_farm_that_was_killed_should_go_on_with_its_recordings(pages: str, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", FARM_SLOTS="2") as farm:
        going, over = (farm.start(url=f"{pages}/page.html", meeting_id=name) for name in ("a", "b"))
        assert {farm.wait_for_take(each["id"], 1, 60)["slot"] for each in (going, over)} == {1, 2}
        time.sleep(RECORDED)
        farm.order(over["id"], "stop")
        tree = [*psutil.Process(farm.process.pid).children(recursive=True), psutil.Process(farm.process.pid)]
        for process in tree:
            with suppress(psutil.NoSuchProcess):  # it dies with its parent
                process.kill()
        psutil.wait_procs(tree, timeout=10)
    assert wait_until_none() == []
    with running_farm(tmp_path / "data", FARM_SLOTS="2") as farm:
        assert farm.wait_for_take(going["id"], 2, 60)["slot"] in {1, 2}
        time.sleep(RECORDED)
        farm.order(going["id"], "stop")
        for each in (going, over):
            recording = farm.wait_for(each["id"], "UPLOADED")
            assert decoded_seconds(farm.download(recording, tmp_path / f"{each['id']}.mp4")) > RECORDED - 2.2
        assert takes_of(recording) >= 1


@pytest.mark.long
def test_recording_whose_meeting_is_gone_should_be_cut_and_uploaded(tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", FARM_JOIN_SECONDS="2", FARM_JOIN_TRIES="1") as farm:
        with serve_pages(FIDELITY_PAGE.parent) as pages:
            started = farm.start(url=f"{pages}/page.html")
            farm.wait_for_take(started["id"], 1, 60)
            time.sleep(RECORDED)
        kill_horse(farm)
        recording = farm.wait_for(started["id"], "UPLOADED", timeout=90)
        assert recording["stop_reason"]["reason"] == "INTERNAL_ERROR"
        assert recording["file_size"] > 0
