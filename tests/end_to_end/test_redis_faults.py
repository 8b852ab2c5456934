"""Recordings while a real Redis is full, or a replica: they go on and end, and are told of when it works."""

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from testkit.redis_servers import FaultyRedis, faulty_redis
from testkit.running_farm import RunningFarm, running_farm, takes_of
from testkit.waiting import wait_until

pytestmark = pytest.mark.long

BROKEN_SECONDS = 12.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyRedis]:
    with faulty_redis(tmp_path / "redis") as found:
        yield found


def parts_of(farm: RunningFarm) -> set[int]:
    """The processes of the farm that are there for as long as it is: no work horses and nothing of stages."""
    (worker,) = (
        process for process in psutil.Process(farm.process.pid).children() if "worker" in process.cmdline()
    )
    pools = worker.children()
    workers = [child for pool in pools for child in pool.children()]
    return {process.pid for process in [worker, *pools, *workers]}


def evidence_log(farm: RunningFarm, recording_id: str) -> str:
    return (farm.data_dir / "evidence" / recording_id / "recorder.log").read_text()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["full", "replica"])
def test_recording_should_be_stopped_and_saved_though_redis_takes_no_writes(
    server: FaultyRedis, pages: str, tmp_path: Path, how: str
) -> None:
    with running_farm(tmp_path / "data", FARM_REDIS_URL=server.address) as farm:
        started = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(started["id"], 1, 60)
        before = parts_of(farm)
        said = len(farm.log().splitlines())
        server.break_it(how)
        broken = time.monotonic()
        refused = farm.client.post("/v2/recordings", json={"meeting_id": "other"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        time.sleep(BROKEN_SECONDS)
        assert farm.order(started["id"], "stop")["status"] == "RECORDING", "nobody can be told yet"
        wait_until(lambda: "command: stop" in evidence_log(farm, started["id"]))
        assert farm.client.get("/readyz").json()["data"]["redis"] == "failed"
        assert farm.client.get("/healthz").status_code == 200
        time.sleep(2)
        stopped = time.monotonic() - broken
        server.mend(how)
        mended = time.monotonic()
        recording = farm.wait_for(started["id"], "UPLOADED", timeout=60)
        print(f"UPLOADED {time.monotonic() - mended:.1f} s after Redis worked again")
        assert time.monotonic() - mended < 30
        assert (recording["error"], takes_of(recording)) == (None, 1)
        assert recording["stop_reason"]["reason"] == "API_CALL"
        assert BROKEN_SECONDS - 1 < recording["recording_duration"] < stopped + 20
        assert parts_of(farm) == before, farm.log()
        outage = [line for line in farm.log().splitlines()[said:] if ", retrying: " in line]
        assert 1 <= len(outage) <= 2 * len(before), outage
        again = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(again["id"], 1, 60)
        farm.order(again["id"], "stop")
        farm.wait_for(again["id"], "UPLOADED")


@pytest.mark.timeout(300)
def test_recording_should_end_by_its_time_while_redis_is_full(
    server: FaultyRedis, pages: str, tmp_path: Path
) -> None:
    with running_farm(tmp_path / "data", FARM_REDIS_URL=server.address) as farm:
        started = farm.start(url=f"{pages}/page.html", max_seconds=10)
        farm.wait_for_take(started["id"], 1, 60)
        server.break_it("full")
        ending = farm.data_dir / "spool" / started["id"] / "ending.json"
        wait_until(ending.exists, 40)
        time.sleep(3)
        server.mend("full")
        recording = farm.wait_for(started["id"], "UPLOADED", timeout=60)
        assert recording["stop_reason"]["reason"] == "MAX_DURATION"
        assert takes_of(recording) == 1
        assert 9 <= recording["recording_duration"] <= 11
