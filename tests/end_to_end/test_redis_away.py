"""Recordings while Redis is away, and after it has forgotten everything."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from testkit.running_farm import (
    RECORDED,
    RunningFarm,
    running_farm,
    takes_of,
    wait_until_healthy,
)

pytestmark = pytest.mark.long

AWAY = 20.0
"""Seconds; longer than every time-out on the way to Redis."""


def redis_of(farm: RunningFarm) -> psutil.Process:
    (server,) = farm.processes("redis-server")
    return server


@pytest.mark.timeout(300)
def test_recording_should_go_on_while_redis_hangs(pages: str, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data") as farm, ExitStack() as awake:
        started = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(started["id"], 1, 60)
        server = redis_of(farm)
        awake.callback(server.send_signal, signal.SIGCONT)
        server.send_signal(signal.SIGSTOP)
        time.sleep(AWAY)
        server.send_signal(signal.SIGCONT)
        wait_until_healthy(farm)
        farm.order(started["id"], "stop")
        recording = farm.wait_for(started["id"], "UPLOADED")
        assert takes_of(recording) == 1
        assert recording["recording_duration"] >= AWAY


@pytest.mark.timeout(300)
def test_recording_should_go_on_when_redis_has_forgotten_it(pages: str, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data") as farm:
        started = farm.start(url=f"{pages}/page.html", file_name_prefix="kept")
        recording = farm.wait_for_take(started["id"], 1, 60)
        assert recording["slot"] is not None
        time.sleep(RECORDED)
        with connect(Settings(data_dir=farm.data_dir).embedded_redis_address) as client:
            client.flushall()
        deadline = time.monotonic() + 30
        while farm.client.get(f"/v2/recordings/{started['id']}").status_code != 200:
            assert time.monotonic() < deadline, farm.log()[-2000:]
            time.sleep(0.2)
        active = farm.answer(farm.client.get("/v2/recordings/active-recording/demo"))
        assert (active["id"], active["slot"]) == (started["id"], recording["slot"])
        farm.order(started["id"], "stop")
        recording = farm.wait_for(started["id"], "UPLOADED")
        assert recording["output_file_name"] == started["output_file_name"]
        assert takes_of(recording) == 1
        assert recording["recording_duration"] >= RECORDED - 1
        # The farm is as good as new.
        again = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(again["id"], 1, 60)
        farm.order(again["id"], "stop")
        farm.wait_for(again["id"], "UPLOADED")
