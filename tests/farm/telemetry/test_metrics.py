import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.nodes.availability import LivingNode as Node
from recording_farm.farm.nodes.availability import NodeState
from recording_farm.farm.nodes.registry import NODES_KEY, Beat, Nodes, NoRoom
from recording_farm.farm.queues.recordings import enqueue_recording
from recording_farm.farm.recording.copies import Copy, CopyReports
from recording_farm.farm.recording.findings import Tally, keep_tally
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.transfers import Transfer, TransferError, TransferState
from recording_farm.farm.telemetry.metrics import (
    FarmCollector,
    NodeCollector,
    load_ratio,
    may_read,
    waiting,
)
from testkit.farm import Farm
from testkit.metrics import shown
from testkit.network.ports import free_port
from testkit.recordings import new_recording
from testkit.settings import settings_with

TOKEN = "a-token-of-enough-characters"


def test_farm_should_show_states_slots_and_queues(farm: Farm) -> None:
    Nodes(farm.redis).beat("one", 3)
    for number, status in enumerate((Status.RECORDING, Status.PAUSED, Status.UPLOADING)):
        farm.add(status=status, node="one", meeting_id=f"m{number}")
    late = now() - timedelta(seconds=90)
    queued = farm.add(meeting_id="late", invoked_time=late)
    enqueue_recording(farm.redis, queued)
    found = shown(FarmCollector(farm.redis))
    assert found["farm_redis_up",] == 1
    assert found["farm_recordings", "RECORDING"] == 1
    assert found["farm_recordings", "PAUSED"] == 1
    assert found["farm_recordings", "INVOKED"] == 1
    assert found["farm_recordings", "UPLOADING"] == 1
    assert (found["farm_slots", "one"], found["farm_slots_used", "one"]) == (3, 2)
    assert found["farm_load_ratio",] == 1
    assert found["farm_recordings_waiting",] == 1
    assert 90 <= found["farm_longest_wait_seconds",] < 120
    assert found["farm_queue_length", "recordings"] == 1
    assert (found["farm_nodes", "alive"], found["farm_nodes", "gone"]) == (1, 0)


def test_nodes_that_are_gone_or_silent_should_not_count(farm: Farm) -> None:
    nodes = Nodes(farm.redis)
    for name in ("lives", "goes"):
        nodes.beat(name, 2)
    nodes.mark_gone("goes", nodes.beats()["goes"])
    silent = Beat(time=now() - timedelta(minutes=5), slots=9)
    farm.redis.hset(NODES_KEY, "silent", silent.model_dump_json())
    farm.add(status=Status.RECORDING, node="goes")
    found = shown(FarmCollector(farm.redis))
    assert (found["farm_nodes", "alive"], found["farm_nodes", "gone"]) == (1, 1)
    assert found["farm_recordings_waiting",] == 1
    assert found["farm_load_ratio",] == 0.5
    assert ("farm_slots", "silent") not in found


def test_files_that_are_nowhere_and_a_store_that_refuses_should_be_seen_until_they_are_mended(
    farm: Farm,
) -> None:
    def over(minutes: int, *transfers: Transfer) -> None:
        farm.add(
            status=Status.UPLOADING,
            meeting_id=f"m{minutes}",
            stopped_time=now() - timedelta(minutes=minutes),
            transfers=transfers,
        )

    error = TransferError(code="timed_out", message="it took too long")
    later = now() + timedelta(hours=2)
    refused = Transfer(target="store", attempts=9, error=error, next_try=later)
    # The customer's dead storage is not the farm's fault: the store has the files.
    over(90, Transfer(target="store", state=TransferState.DONE), Transfer(target="aws", error=error))
    over(2, Transfer(target="store", state=TransferState.RUNNING))
    found = shown(FarmCollector(farm.redis))
    assert 120 <= found["farm_oldest_unsaved_seconds",] < 150
    assert found["farm_store_refused",] == 0
    over(60, refused, Transfer(target="aws", state=TransferState.DONE))
    over(40, refused.model_copy(update={"state": TransferState.RUNNING, "next_try": None}))
    over(30)
    found = shown(FarmCollector(farm.redis))
    assert 2400 <= found["farm_oldest_unsaved_seconds",] < 2430
    assert found["farm_store_refused",] == 2


def test_copies_that_are_uploaded_while_recorded_should_be_seen_as_they_fall_behind(farm: Farm) -> None:
    def add(status: Status, **copies: Copy) -> None:
        recording = farm.add(status=status, node="one", meeting_id=f"m{len(farm.records.unfinished())}")
        reported = {target.replace("_", "-"): copy for target, copy in copies.items()}
        CopyReports(farm.redis).write("one", {str(recording.id): reported})

    late = Copy(uploaded_bytes=1, behind_seconds=400, in_parts=True, has_fallen_behind=True)
    add(Status.RECORDING, store=Copy(uploaded_bytes=9, behind_seconds=20, in_parts=True), s3_2=late)
    add(Status.PAUSED, s3=late.model_copy(update={"behind_seconds": 700}), store=Copy())
    # As a whole, at the end.
    add(Status.RECORDING, sftp=Copy(uploaded_bytes=0, behind_seconds=9000))
    # It has ended: other metrics watch over its upload.
    add(Status.UPLOADING, store=late)
    found = shown(FarmCollector(farm.redis))
    seconds = {place: found["farm_copy_behind_seconds", place] for place in ("store", "s3", "sftp", "aws")}
    assert seconds == {"store": 20, "s3": 700, "sftp": 0, "aws": 0}
    behind = {place: found["farm_copies_behind", place] for place in ("store", "s3", "sftp", "aws")}
    assert behind == {"store": 0, "s3": 2, "sftp": 0, "aws": 0}


def test_free_slots_of_nodes_that_begin_nothing_should_not_count(farm: Farm) -> None:
    nodes = Nodes(farm.redis)
    nodes.beat("takes", 2)
    nodes.beat("drained", 4)
    nodes.drain("drained")
    nodes.beat("ends", 4, draining=True)
    nodes.drain("ends")
    for number, name in enumerate(("takes", "ends")):
        farm.add(status=Status.RECORDING, node=name, meeting_id=f"m{number}")
    found = shown(FarmCollector(farm.redis))
    states = {state: found["farm_nodes", state] for state in ("alive", "drained", "draining", "gone")}
    assert states == {"alive": 1, "drained": 1, "draining": 1, "gone": 0}
    assert {name: found["farm_slots", name] for name in ("takes", "drained", "ends")} == {
        "takes": 2,
        "drained": 0,
        "ends": 1,
    }
    assert found["farm_slots_used", "ends"] == 1
    assert found["farm_recordings_waiting",] == 0
    assert found["farm_load_ratio",] == 0.5


def test_nodes_without_room_should_count_by_what_they_lack(farm: Farm) -> None:
    nodes = Nodes(farm.redis)
    nodes.beat("takes", 2)
    for name, reason in (("a", "disk"), ("b", "disk"), ("c", "load"), ("d", "heat")):
        nodes.beat(name, 2, no_room=NoRoom(reason=reason, message=""))
    found = shown(FarmCollector(farm.redis))
    assert found["farm_nodes", "alive"] == 1
    counts = {reason: found["farm_nodes", reason, "no_room"] for reason in ("disk", "memory", "load", "heat")}
    assert counts == {"disk": 2, "memory": 0, "load": 1, "heat": 1}
    assert (found["farm_slots", "takes"], found["farm_slots", "a"]) == (2, 0)


def test_farm_without_redis_should_say_so_and_no_more() -> None:
    with connect("unix:///nowhere/redis.sock", retries=0) as client:
        assert shown(FarmCollector(client)) == {("farm_redis_up",): 0}


@pytest.mark.parametrize(
    ("nodes", "of_nodes", "ratio"),
    [
        ([Node("a", 4)], ["a"], 0.25),
        ([Node("a", 1), Node("b", 1)], ["a", None, None], 1.5),
        ([Node("a", 2), Node("b", 8, NodeState.DRAINED)], ["a", "b"], 0.5),
        ([Node("a", 2, NodeState.DRAINING), Node("b", 1)], ["a", "a", None], 1),
        ([Node("a", 2, NodeState.DRAINING)], ["a", None, None], 2),
        # A node without room counts as full.
        ([Node("a", 4), Node("b", 4, NodeState.NO_ROOM)], ["a", "b", "b"], 0.5),
        ([Node("a", 4, NodeState.NO_ROOM)], ["a", "a", None], 1.5),
        ([Node("a", 4, NodeState.NO_ROOM)], [], 0),
        ([], [None, None, None], 3),
        ([], [], 0),
    ],
)
def test_load_should_be_what_is_wanted_for_each_slot(
    nodes: list[Node], of_nodes: list[str | None], ratio: float
) -> None:
    recordings: list[Recording] = [new_recording(node=node) for node in of_nodes]
    assert load_ratio(recordings, nodes) == ratio
    assert len(waiting(recordings, nodes)) == sum(node is None for node in of_nodes)


def test_node_should_show_its_machine_and_the_memory_of_each_recording(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, None, slots="3", disk_reserve="1G")
    spool = settings.spool_dir / "0a1b2c3d-0000-4000-8000-000000000000"
    spool.mkdir(parents=True)  # as it is while a recording begins
    keep_tally(spool, Tally(peak_memory=123_456))
    found = shown(NodeCollector(settings))
    assert (found["farm_node_slots", "node-1"], found["farm_node_slots_used", "node-1"]) == (3, 1)
    assert found["farm_recording_memory_bytes", "node-1", spool.name] == 123_456
    assert found["farm_node_disk_reserve_bytes", "node-1"] == 1 << 30
    assert 0 < found["farm_node_disk_free_bytes", "node-1"] <= found["farm_node_disk_bytes", "node-1"]
    assert 0 < found["farm_node_memory_free_bytes", "node-1"] <= found["farm_node_memory_bytes", "node-1"]
    assert 0 <= found["farm_node_processors_busy_ratio", "node-1"] <= 1


def test_names_should_be_prometheus_own(redis_client: redis.Redis, tmp_path: Path) -> None:
    found = shown(FarmCollector(redis_client)) | shown(NodeCollector(settings_with(tmp_path, None)))
    assert all(re.fullmatch(r"farm_[a-z_]+", name) for name, *_ in found)


def test_only_the_token_should_open_the_metrics(tmp_path: Path) -> None:
    closed, opened = settings_with(tmp_path, None), settings_with(tmp_path, None, metrics_token=TOKEN)
    assert not may_read(closed, f"Bearer {TOKEN}")
    assert may_read(opened, f"Bearer {TOKEN}")
    assert may_read(opened, f"bearer  {TOKEN}")
    for wrong in (None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        assert not may_read(opened, wrong)


def test_node_should_not_be_read_from_elsewhere_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_NODE_PORT", "9100")
    assert load_settings().node_host == "127.0.0.1"
    monkeypatch.setenv("FARM_NODE_HOST", "0.0.0.0")
    with pytest.raises(SettingsError, match="FARM_METRICS_TOKEN"):
        load_settings()
    monkeypatch.setenv("FARM_METRICS_TOKEN", TOKEN)
    assert load_settings().node_port == 9100


@contextmanager
def node_server(settings: Settings) -> Iterator[httpx.Client]:
    port = free_port()
    source = (
        "import sys; from recording_farm.farm.config.settings import Settings; "
        "from recording_farm.farm.worker.node_server import run_node_server; "
        "run_node_server(Settings.model_validate_json(sys.stdin.read()))"
    )
    values = {
        "data_dir": str(settings.data_dir), "redis_url": settings.redis_address, "node": "node-1",
        "node_port": port, "node_host": settings.node_host,
        "metrics_token": settings.metrics_token.get_secret_value() if settings.metrics_token else None,
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE)
    assert process.stdin is not None

    process.stdin.write(json.dumps(values).encode())
    process.stdin.close()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            _wait_until_it_answers(client, process)
            yield client
    finally:
        process.terminate()
        assert process.wait(20) == 0


def _wait_until_it_answers(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            client.get("/")
            return
        except httpx.TransportError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_node_server_should_answer_metrics_and_health(settings: Settings) -> None:
    with node_server(settings) as client:
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert "farm_node_slots" in answer.text
        assert client.get("/healthz").json() == {"redis": "ready"}
        assert client.get("/else").status_code == 404
        assert client.post("/metrics").status_code == 405


def test_node_server_should_want_its_token(settings: Settings) -> None:
    with node_server(settings_with(settings.data_dir, settings.redis_url, metrics_token=TOKEN)) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"Authorization": "Bearer x"}).status_code == 401
        assert client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_node_server_without_redis_should_not_be_healthy(tmp_path: Path) -> None:
    with node_server(settings_with(tmp_path, f"unix://{tmp_path}/none.sock")) as client:
        assert client.get("/healthz").status_code == 503
        assert client.get("/metrics").status_code == 200
