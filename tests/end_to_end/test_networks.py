"""Two nodes on machines of their own, in network namespaces, that share a Redis."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from rq import Worker

from recording_farm.farm.db.clients import connect
from recording_farm.farm.nodes.registry import GONE_AFTER, Nodes
from recording_farm.farm.queues.recordings import node_recordings_queue
from recording_farm.farm.recording.records import Records
from testkit.encoder.films import decoded_seconds
from testkit.network.networks import HUB, Host, cannot_make_networks, network
from testkit.network.ports import free_port
from testkit.pages import FIDELITY_PAGE, serve_pages
from testkit.redis_servers import running
from testkit.running_farm import RECORDED, RunningFarm, faults_of, takes_of, wait_until_healthy
from testkit.waiting import wait_until
from testkit.workers import encoders, running_worker

pytestmark = pytest.mark.long

PASSWORD = "word-of-the-network"
WHY_NOT = cannot_make_networks()


@contextmanager
def hub(directory: Path) -> Iterator[tuple[RunningFarm, redis.Redis, str]]:
    """Redis and an API on this machine; yields the API, a client of Redis, and its address in the network."""
    redis_port, port = free_port(), free_port()
    address = f"redis://:{PASSWORD}@{HUB}:{redis_port}/0"
    words = ("--port", str(redis_port), "--bind", HUB, "--requirepass", PASSWORD, "--save", "")
    data_dir = directory / "api"
    data_dir.mkdir(parents=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FARM_")},
        **shared(directory),
        "FARM_DATA_DIR": str(data_dir), "FARM_REDIS_URL": address, "FARM_PORT": str(port),
        "FARM_API_KEYS": "acme:key",
    }  # fmt: skip
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("acme", "key"), timeout=30)
    with running(directory / "redis", *words), connect(address) as redis_client, client:
        wait_until(redis_client.ping)
        with (data_dir / "farm.log").open("ab") as log:
            api = subprocess.Popen(
                [sys.executable, "-m", "recording_farm.farm.cli", "api"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            )  # fmt: skip
        try:
            farm = RunningFarm(api, data_dir, client)
            wait_until_healthy(farm)
            yield farm, redis_client, address
        finally:
            api.terminate()
            api.wait(60)


def shared(directory: Path) -> dict[str, str]:
    return {
        "FARM_STORE_URL": f"file://{directory}/store",
        "FARM_SECRET_KEY": "a secret of sixteen",
        "FARM_ALLOW_PRIVATE_ADDRESSES": "all",
    }


def start_small(farm: RunningFarm, url: str, meeting_id: str) -> dict[str, Any]:
    return farm.start(url=url, meeting_id=meeting_id, video_config={"width": 640, "height": 360})


def wait_for_slot(client: redis.Redis, name: str) -> None:
    wait_until(lambda: Worker.all(queue=node_recordings_queue(client, name)), 60)


@pytest.mark.timeout(600)
@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_work_should_be_spread_and_go_on_when_a_machine_is_cut_off(tmp_path: Path) -> None:
    with (
        network("one", "two") as hosts,
        serve_pages(FIDELITY_PAGE.parent, HUB) as pages,
        hub(tmp_path) as (farm, client, address),
        ExitStack() as machines,
    ):
        workers = {}
        for host in hosts:
            workers[host.name] = machines.enter_context(
                running_worker(
                    client, address, tmp_path / host.name,
                    within=host.words, FARM_NODE=host.name, **shared(tmp_path),
                )
            )  # fmt: skip
            wait_for_slot(client, host.name)
        records = Records(client)
        by_node: dict[str, str] = {}
        for meeting_id in ("a", "b"):
            started = start_small(farm, f"{pages}/page.html", meeting_id)
            farm.wait_for_take(started["id"], 1, 90)
            node = records.get(None, started["id"]).node
            assert node is not None
            by_node[node] = started["id"]
        assert set(by_node) == {"one", "two"}
        time.sleep(RECORDED)
        # The node that stays has a slot again, and then the other one is cut off.
        farm.order(by_node["two"], "stop")
        farm.wait_for(by_node["two"], "UPLOADED", timeout=90)
        time.sleep(RECORDED)
        cut: Host = hosts[0]
        cut.cut_off()
        machines.callback(cut.join)
        began = time.monotonic()
        recording = farm.wait_for_take(by_node["one"], 2, 120)
        gone_on = time.monotonic() - began
        assert records.get(None, by_node["one"]).node == "two"
        assert Nodes(client).gone("one") is not None
        assert any("one is gone" in fault for fault in faults_of(recording))
        time.sleep(RECORDED)
        farm.order(by_node["one"], "stop")
        recording = farm.wait_for(by_node["one"], "UPLOADED", timeout=90)
        # The file has what the first node recorded before it was cut off, and nothing that it wrote since,
        # although it could reach the store all the time.
        assert (recording["error"], takes_of(recording)) == (None, 2)
        (missing,) = [entry for entry in recording["timeline"] if entry["event"] == "missing"]
        film = farm.download(recording, tmp_path / "film.mp4")
        seconds = sum(take["duration_ns"] for take in recording["takes"]) / 1e9
        assert decoded_seconds(film) == pytest.approx(seconds, abs=0.2)
        assert seconds > 2 * RECORDED
        # Back again, it gives way, tells what else it has, and is a node like before.
        cut.join()
        wait_until(lambda: not encoders(workers["one"]), 90)
        wait_until(lambda: "is back" in faults_of(farm.wait_for(by_node["one"], "UPLOADED"))[-1], 90)
        held = re.search(
            r"has ([0-9.]+) s that are not in the file",
            faults_of(farm.wait_for(by_node["one"], "UPLOADED"))[-1],
        )
        assert held is not None
        # Its lease of the replica ends at half the time after which it is gone.
        assert missing["seconds"] > GONE_AFTER / 3
        assert float(held[1]) == pytest.approx(missing["seconds"], abs=0.2)
        left = [path.name for path in (tmp_path / "store").glob("*/**/*") if path.name.startswith(".")]
        assert left == []
        wait_until(lambda: Nodes(client).gone("one") is None, 60)
        late = [start_small(farm, f"{pages}/page.html", meeting_id) for meeting_id in ("c", "d")]
        for started in late:
            farm.wait_for_take(started["id"], 1, 90)
        assert {records.get(None, started["id"]).node for started in late} == {"one", "two"}
        for started in late:
            farm.order(started["id"], "stop")
            farm.wait_for(started["id"], "UPLOADED", timeout=90)
    print(f"gone on with {gone_on:.1f} s after the link was cut")
