"""Slots: what waits for them, and the stages that stand before anything comes."""

import time
from collections.abc import Callable
from pathlib import Path

import av
import psutil
import pytest

from testkit.machine.processes import below
from testkit.running_farm import RunningFarm, running_farm, takes_of

pytestmark = pytest.mark.long


def waiting_stage(farm: RunningFarm) -> dict[str, int]:
    """The work horse that waits, with the programs of its stage by their names; empty until that stands."""
    for horse in farm.processes("farm warm"):
        programs = horse.children(recursive=True)
        named = {each.name(): each.pid for each in reversed(programs)}
        if "Xorg" in named and below(horse.pid, word="--type=renderer"):
            return {**named, "horse": horse.pid}
    return {}


def wait_for_stage(farm: RunningFarm, wanted: Callable[[dict[str, int]], bool] = bool) -> dict[str, int]:
    deadline = time.monotonic() + 30
    while True:
        try:
            stage = waiting_stage(farm)
            if stage and wanted(stage):
                return stage
        except psutil.NoSuchProcess:
            pass
        assert time.monotonic() < deadline, farm.log()[-3000:]
        time.sleep(0.1)


def test_recording_should_begin_on_a_stage_that_waits_and_is_used_once(pages: str, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", FARM_SLOTS="1") as farm:
        waiting = wait_for_stage(farm)
        recording = farm.start(url=f"{pages}/page.html", video_config={})
        recording = farm.wait_for_take(recording["id"], 1, 60)
        assert recording["slot"] == 1
        assert farm.recorder().pid == waiting["horse"]
        assert farm.processes("Xorg")[0].pid == waiting["Xorg"]
        time.sleep(2)
        farm.order(recording["id"], "stop")
        recording = farm.wait_for(recording["id"], "UPLOADED")
        assert (takes_of(recording), recording["slot"]) == (1, None)

        another = wait_for_stage(farm)
        assert another["horse"] != waiting["horse"]
        psutil.Process(another["Xorg"]).kill()
        mended = wait_for_stage(farm, lambda stage: stage["Xorg"] != another["Xorg"])
        assert mended["horse"] == another["horse"]
        psutil.Process(mended["horse"]).kill()
        third = wait_for_stage(farm, lambda stage: stage["horse"] != mended["horse"])

        # This one needs a display of another size.
        recording = farm.start(url=f"{pages}/page.html", video_config={"width": 640, "height": 360})
        farm.wait_for_take(recording["id"], 1, 60)
        assert farm.recorder().pid == third["horse"]
        assert farm.processes("Xorg")[0].pid != third["Xorg"]
        time.sleep(2)
        farm.order(recording["id"], "stop")
        recording = farm.wait_for(recording["id"], "UPLOADED")
        with av.open(recording["download_url"]) as file:
            assert (file.streams.video[0].width, file.streams.video[0].height) == (640, 360)

        # And one like it gets the stage that stands.
        fourth = wait_for_stage(farm)
        recording = farm.start(url=f"{pages}/page.html", video_config={"width": 640, "height": 360})
        farm.wait_for_take(recording["id"], 1, 60)
        assert farm.recorder().pid == fourth["horse"]
        assert farm.processes("Xorg")[0].pid == fourth["Xorg"]


def test_most_important_recording_should_begin_first(pages: str, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", FARM_SLOTS="1") as farm:
        page = f"{pages}/page.html"
        first = farm.start(url=page, meeting_id="first")
        farm.wait_for_take(first["id"], 1, 60)
        low = farm.start(url=page, meeting_id="low", priority="low")
        high = farm.start(url=page, meeting_id="high", priority="high")
        waiting = [farm.wait_for(each["id"], "INVOKED") for each in (low, high)]
        assert [(each["queue_position"], each["priority"]) for each in waiting] == [(2, "low"), (1, "high")]
        farm.order(first["id"], "stop")
        farm.wait_for_take(high["id"], 1, 60)
        assert farm.wait_for(low["id"], "INVOKED")["queue_position"] == 1
        farm.order(low["id"], "stop")


def test_busy_node_should_begin_nothing_more(pages: str, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", FARM_SLOTS="2", FARM_MAX_LOAD="0.01") as farm:
        first = farm.start(url=f"{pages}/page.html", meeting_id="first")
        farm.wait_for_take(first["id"], 1, 60)
        second = farm.start(url=f"{pages}/page.html", meeting_id="second")
        time.sleep(5)
        waiting = farm.wait_for(second["id"], "INVOKED")["waiting"]
        assert (waiting["position"], waiting["reason"]) == (1, "load")
        farm.order(first["id"], "stop")
        farm.wait_for_take(second["id"], 1, 60)
