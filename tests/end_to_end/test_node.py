"""What becomes of a node's recordings when it is told to end, is killed, or its disk fills."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from recording_farm.farm.db.clients import connect
from recording_farm.farm.nodes.registry import Nodes
from testkit.machine.disks import small_disk
from testkit.machine.processes import below, wait_until_none, words_of
from testkit.running_farm import (
    RECORDED,
    RunningFarm,
    running_farm,
    takes_of,
    wait_until_healthy,
)
from testkit.settings import settings_with

pytestmark = pytest.mark.long

MIB = 1 << 20


def test_node_that_drains_should_wait_for_its_recordings_and_take_nothing_new(
    pages: str, tmp_path: Path
) -> None:
    with running_farm(tmp_path / "data", FARM_SLOTS="2", FARM_DRAIN_SECONDS="30") as farm:
        going = farm.start(url=f"{pages}/page.html", meeting_id="a")
        farm.wait_for_take(going["id"], 1, 60)
        farm.process.send_signal(signal.SIGTERM)
        time.sleep(2)
        late = farm.start(url=f"{pages}/page.html", meeting_id="b")
        time.sleep(2)
        assert farm.wait_for(going["id"], "RECORDING")
        assert farm.wait_for(late["id"], "INVOKED")
        with connect(settings_with(tmp_path / "data", None).redis_address) as client:
            assert [node.beat.draining for node in Nodes(client).all()] == [True]
        farm.order(going["id"], "stop")
        farm.process.wait(30)
    with running_farm(tmp_path / "data") as farm:
        recording = farm.wait_for(going["id"], "UPLOADED")
        assert (recording["stop_reason"]["reason"], recording["error"]) == ("API_CALL", None)
        assert recording["recording_duration"] >= 3
        farm.wait_for_take(late["id"], 1, 60)


def test_helper_that_dies_while_a_node_drains_should_not_end_its_recordings(
    pages: str, tmp_path: Path
) -> None:
    with running_farm(tmp_path / "data", FARM_DRAIN_SECONDS="60") as farm:
        going = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(going["id"], 1, 60)
        farm.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        for helper in ("farm cron", "farm node"):
            (victim,) = below(farm.process.pid, name=helper)
            victim.kill()
            wait_for_another(farm, helper, victim)
        time.sleep(RECORDED)
        assert farm.wait_for(going["id"], "RECORDING")
        farm.order(going["id"], "stop")
        farm.process.wait(30)
    with running_farm(tmp_path / "data") as farm:
        recording = farm.wait_for(going["id"], "UPLOADED")
        assert (recording["stop_reason"]["reason"], recording["error"]) == ("API_CALL", None)
        assert takes_of(recording) == 1


def wait_for_another(farm: RunningFarm, name: str, process: psutil.Process) -> None:
    """Wait until a helper process of the worker that was killed has been started again."""
    deadline = time.monotonic() + 15
    while not [each for each in below(farm.process.pid, name=name) if each.pid != process.pid]:
        assert time.monotonic() < deadline, f"no {name} again"
        time.sleep(0.1)


def test_node_that_has_drained_for_long_enough_should_end_its_recordings_properly(
    pages: str, tmp_path: Path
) -> None:
    with running_farm(tmp_path / "data", FARM_DRAIN_SECONDS="3") as farm:
        started = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(started["id"], 1, 60)
        began = time.monotonic()
    assert 3 < time.monotonic() - began < 30
    with running_farm(tmp_path / "data") as farm:
        recording = farm.wait_for(started["id"], "UPLOADED")
        assert recording["error"]["code"] == "node_shut_down"
        assert recording["recording_duration"] >= 3


def test_second_signal_should_end_at_once_and_lose_nothing(pages: str, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", FARM_DRAIN_SECONDS="1000") as farm:
        started = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(started["id"], 1, 60)
        time.sleep(RECORDED)
        farm.process.send_signal(signal.SIGINT)
        time.sleep(1.5)
        began = time.monotonic()
        farm.process.send_signal(signal.SIGINT)
        farm.process.wait(30)
        assert time.monotonic() - began < 10
    assert wait_until_none() == []
    with running_farm(tmp_path / "data") as farm:
        farm.wait_for_take(started["id"], 2, 60)
        farm.order(started["id"], "stop")
        recording = farm.wait_for(started["id"], "UPLOADED")
        assert takes_of(recording) == 2


def test_farm_whose_process_group_is_killed_should_leave_nothing_and_go_on(
    pages: str, tmp_path: Path
) -> None:
    with running_farm(tmp_path / "data") as farm:
        started = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(started["id"], 1, 60)
        time.sleep(RECORDED)
        tree = below(farm.process.pid)
        os.killpg(farm.process.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(tree, timeout=60)
        assert alive == []
    assert wait_until_none() == []
    with running_farm(tmp_path / "data") as farm:
        farm.wait_for_take(started["id"], 2, 60)
        farm.order(started["id"], "stop")
        recording = farm.wait_for(started["id"], "UPLOADED")
        assert (recording["stop_reason"]["reason"], recording["error"]) == ("API_CALL", None)
        assert recording["quality"]["takes"] == 2


@pytest.mark.parametrize("victim", ["worker", "api", "redis-server"])
def test_killed_part_of_the_farm_should_lose_nothing(pages: str, tmp_path: Path, victim: str) -> None:
    with running_farm(tmp_path / "data") as farm:
        started = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(started["id"], 1, 60)
        time.sleep(RECORDED)
        tree = below(farm.process.pid)
        # Looked at before the first dies: the others die with it.
        for process in [each for each in tree if victim in [*words_of(each), each.name()]]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if victim == "worker":
            farm.wait_for_take(started["id"], 2, 60)
        time.sleep(RECORDED)
        wait_until_healthy(farm)
        farm.order(started["id"], "stop")
        recording = farm.wait_for(started["id"], "UPLOADED")
        assert takes_of(recording) == (2 if victim == "worker" else 1)
        assert recording["recording_duration"] >= 2 * RECORDED - 2.2
        assert recording["error"] is None


def test_disk_that_fills_should_end_recordings_properly_and_begin_none(pages: str, tmp_path: Path) -> None:
    disk = tmp_path / "data" / "spool"
    with (
        small_disk(disk, 64),
        running_farm(tmp_path / "data", FARM_SLOTS="2", FARM_DISK_RESERVE="40M") as farm,
    ):
        running = farm.start(url=f"{pages}/page.html", meeting_id="a")
        farm.wait_for_take(running["id"], 1, 60)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(30 * MIB))
        waiting = farm.start(url=f"{pages}/page.html", meeting_id="b")
        time.sleep(RECORDED)
        assert farm.wait_for(waiting["id"], "INVOKED")
        assert farm.wait_for(running["id"], "RECORDING")
        ballast.write_bytes(bytes(46 * MIB))
        recording = farm.wait_for(running["id"], "UPLOADED")
        assert recording["error"]["code"] == "disk_full"
        assert recording["recording_duration"] >= 2
        assert farm.wait_for(waiting["id"], "INVOKED")
        ballast.unlink()
        farm.wait_for_take(waiting["id"], 1, 60)
        assert farm.processes("ffmpeg")
