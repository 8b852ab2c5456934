"""Two nodes, one Redis, one store: what becomes of recordings when a node is gone, and when it is back."""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import av
import httpx
import psutil
import pytest

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.embedded import EmbeddedRedis, embedded_redis
from recording_farm.farm.nodes.registry import GONE_AFTER
from recording_farm.farm.recording.records import Records
from testkit.encoder.films import decoded_seconds
from testkit.machine.load import patience
from testkit.pages import NOISE, serve_pages
from testkit.running_farm import (
    RECORDED,
    RunningFarm,
    faults_of,
    takes_began,
    takes_of,
    wait_until_healthy,
)
from testkit.storage.buckets import bucket_at
from testkit.workers import encoders, running_worker

pytestmark = pytest.mark.long

STOPPED = 30.0
AWAY = 60.0
LONG = 40.0
"""Seconds."""

Worker = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Machines:
    """An API, and a Redis for it and for workers that are started as nodes."""

    farm: RunningFarm
    redis: EmbeddedRedis
    directory: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def node(self, name: str) -> Iterator[Worker]:
        """Run a worker with a data directory of its own."""
        with (
            connect(self.redis.address) as client,
            running_worker(
                client, self.redis.address, self.directory / name, FARM_NODE=name, **self.shared
            ) as worker,
        ):
            yield worker

    @property
    def shared(self) -> dict[str, str]:
        """What all parts of the farm have in common."""
        return {
            "FARM_STORE_URL": f"file://{self.directory}/store",
            "FARM_SECRET_KEY": "a secret of sixteen",
            "FARM_ALLOW_PRIVATE_ADDRESSES": "all",
            **self.settings,
        }

    def node_of(self, recording_id: str) -> str | None:
        """The node that has a recording."""
        with connect(self.redis.address) as client:
            return Records(client).get(None, recording_id).node

    def superseded(self, name: str, recording_id: str) -> Path:
        """Where a node sets a recording aside."""
        return self.directory / name / "superseded" / recording_id


@contextmanager
def running_machines(directory: Path, settings: Mapping[str, str] | None = None) -> Iterator[Machines]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data_dir = directory / "api"
    data_dir.mkdir(parents=True)
    with embedded_redis(Settings(data_dir=directory)) as server:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("acme", "key"), timeout=30)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FARM_")},
            "FARM_DATA_DIR": str(data_dir),
            "FARM_REDIS_URL": server.address,
            "FARM_PORT": str(port),
            "FARM_API_KEYS": "acme:key",
        }
        with (data_dir / "farm.log").open("ab") as log, client:
            others = settings or {}
            shared = Machines(RunningFarm(None, data_dir, client), server, directory, others).shared  # type: ignore[arg-type]
            api = subprocess.Popen(
                [sys.executable, "-m", "recording_farm.farm.cli", "api"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment | shared,
            )  # fmt: skip
            try:
                farm = RunningFarm(api, data_dir, client)
                wait_until_healthy(farm)
                yield Machines(farm, server, directory, others)
            finally:
                api.terminate()
                api.wait(60)


def tree(worker: Worker) -> list[psutil.Process]:
    """All processes of a node."""
    root = psutil.Process(worker.pid)
    return [root, *root.children(recursive=True)]


def kill(worker: Worker) -> None:
    processes = tree(worker)
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it dies with its parent
            process.kill()
    worker.wait(10)
    psutil.wait_procs(processes, timeout=10)


def wait_until_set_aside(machines: Machines, name: str, recording_id: str) -> Path:
    deadline = time.monotonic() + 150
    while not list(machines.superseded(name, recording_id).glob("*.mp4")) or list(
        (machines.directory / name / "spool").glob("*-*")
    ):
        assert time.monotonic() < deadline, (machines.directory / name / "worker.log").read_text()[-3000:]
        time.sleep(0.2)
    (film,) = machines.superseded(name, recording_id).glob("*.mp4")
    return film


def wait_for_evidence(farm: RunningFarm, recording_id: str, nodes: set[str]) -> dict[str, str]:
    """The texts of a recording's evidence by node and name, once these nodes have brought theirs."""
    deadline = time.monotonic() + 60
    while True:
        answer = farm.client.get(f"/v2/recordings/{recording_id}/evidence")
        if answer.status_code == 200:
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                found = {
                    re.sub("-[0-9a-f]{8}/", "/", name): archive.read(name).decode(errors="replace")
                    for name in archive.namelist()
                }
            if {name.split("/")[0] for name in found} == nodes:
                return found
        assert time.monotonic() < deadline, answer.status_code
        time.sleep(0.5)


def seconds_of(film: Path) -> float:
    with av.open(str(film)) as file:
        assert file.duration is not None
        return file.duration / 1e6


@pytest.mark.timeout(500)
def test_recording_of_a_node_that_is_gone_should_be_gone_on_with_by_another(
    pages: str, tmp_path: Path
) -> None:
    with running_machines(tmp_path) as machines:
        farm = machines.farm
        with machines.node("goes") as goes:
            started = farm.start(url=f"{pages}/page.html")
            recording = farm.wait_for_take(started["id"], 1, 90)
            started_time = recording["started_time"]
            with machines.node("stays"):
                time.sleep(RECORDED)
                killed = time.time()
                kill(goes)
                recording = farm.wait_for_take(started["id"], 2, 120)
                gap = takes_began(recording)[1].timestamp() - killed
                time.sleep(RECORDED)
                farm.order(started["id"], "stop")
                recording = farm.wait_for(started["id"], "UPLOADED")
                assert machines.node_of(started["id"]) == "stays"
                assert (recording["error"], recording["started_time"]) == (None, started_time)
                assert recording["stop_reason"]["reason"] == "API_CALL"
                (fault,) = faults_of(recording)
                assert "goes is gone" in fault
                # The takes are numbered on, and the file has those of both nodes.
                numbers = [entry["take"] for entry in recording["timeline"] if entry["event"] == "take_began"]
                assert (numbers[:2], takes_of(recording)) == ([0, 1], 2)
                length = decoded_seconds(farm.download(recording, tmp_path / "file.mp4"))
                assert length > RECORDED
                assert gap < (GONE_AFTER + 10) * patience()
        with machines.node("goes"):
            aside = wait_until_set_aside(machines, "goes", started["id"])
            assert seconds_of(aside) > RECORDED - 2.2
            # What the first node had kept comes into the store, though the API sees neither node's directory.
            evidence = wait_for_evidence(farm, started["id"], {"goes", "stays"})
        assert "NodeGone" in evidence["stays/fault-001/fault.json"]
        assert "take 0 started" in evidence["goes/recorder.log"]
        assert "take 1 started" in evidence["stays/recorder.log"]
        recording = farm.wait_for(started["id"], "UPLOADED")
        assert "goes is back" in faults_of(recording)[-1]
    print(f"next take after {gap:.1f} s; {length:.1f} s in the file, {seconds_of(aside):.1f} s aside")


def left_in(store: Path) -> list[Path]:
    """Files of a directory store besides its own at the top."""
    return [path for path in store.glob("*/**/*") if path.is_file()]


@pytest.mark.timeout(500)
def test_recording_of_a_node_that_is_lost_with_its_disk_should_lose_seconds(
    pages: str, tmp_path: Path
) -> None:
    with running_machines(tmp_path) as machines:
        recording, length = lose_a_node(machines, f"{pages}/page.html", tmp_path)
        left = left_in(machines.directory / "store")
        assert {path.parent.name for path in left} == {recording["id"]}
        assert not [path for path in left if path.name.startswith(".")]
    print(f"{length:.1f} s in the file")


@pytest.mark.timeout(500)
def test_node_that_starts_with_an_empty_disk_should_restore_its_recordings(
    pages: str, tmp_path: Path
) -> None:
    with running_machines(tmp_path) as machines:
        farm = machines.farm
        with machines.node("pod") as pod:
            started = farm.start(url=f"{pages}/page.html")
            farm.wait_for_take(started["id"], 1, 90)
            time.sleep(LONG / 2)
            kill(pod)
            shutil.rmtree(machines.directory / "pod")
            # The API and Redis are started again meanwhile.
            machines.redis.process.send_signal(signal.SIGKILL)
            machines.redis.process.wait(10)
            machines.redis.start_again()
            wait_until_healthy(farm)
        with machines.node("pod"):
            farm.wait_for_take(started["id"], 2, 120)
            time.sleep(RECORDED)
            farm.order(started["id"], "stop")
            recording = farm.wait_for(started["id"], "UPLOADED")
            assert recording["error"] is None
            assert len([entry for entry in recording["timeline"] if entry["event"] == "missing"]) == 1
            assert [take["take"] for take in recording["takes"]] == list(range(takes_of(recording)))
            length = decoded_seconds(farm.download(recording, tmp_path / "file.mp4"))
            assert length > LONG / 2 + RECORDED - 6 * patience()
            assert not [path for path in left_in(tmp_path / "store") if path.name.startswith(".")]
    print(f"{length:.1f} s in the file")


@pytest.mark.timeout(500)
def test_recording_that_is_stopped_while_its_node_is_lost_should_be_finished_by_another(
    pages: str, tmp_path: Path
) -> None:
    with running_machines(tmp_path) as machines:
        farm = machines.farm
        with machines.node("lost") as lost:
            started = farm.start(url=f"{pages}/page.html")
            farm.wait_for_take(started["id"], 1, 90)
            with machines.node("stays"):
                time.sleep(LONG / 2)
                kill(lost)
                shutil.rmtree(machines.directory / "lost")
                farm.order(started["id"], "stop")
                recording = farm.wait_for(started["id"], "UPLOADED", timeout=120)
                assert (recording["error"], machines.node_of(started["id"])) == (None, "stays")
                length = decoded_seconds(farm.download(recording, tmp_path / "file.mp4"))
                assert length > LONG / 2 - 6 * patience()
    print(f"{length:.1f} s in the file")


@pytest.mark.timeout(500)
def test_parts_that_a_lost_node_sent_should_be_in_the_file(tmp_path: Path, s3_endpoint: str) -> None:
    storage: dict[str, Any] = {
        "type": "s3", "bucket": "films", "access_key": "key", "secret": "secret", "endpoint": s3_endpoint,
    }  # fmt: skip
    in_bucket = {
        "FARM_STORE_URL": f"s3://store?endpoint={s3_endpoint}",
        "FARM_STORE_ACCESS_KEY": "key",
        "FARM_STORE_SECRET": "secret",
    }
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "noise.html").write_text(NOISE)
    with (
        bucket_at(s3_endpoint, "store") as store,
        bucket_at(s3_endpoint, "films") as films,
        serve_pages(tmp_path / "pages") as pages,
        running_machines(tmp_path, in_bucket) as machines,
    ):
        recording, length = lose_a_node(
            machines,
            f"{pages}/noise.html",
            tmp_path,
            video_config={"profile": "motion"},
            storage_config=storage,
        )
        name = recording["output_file_name"]
        kept = store.Object(f"{recording['id']}/{name}").get()["Body"].read()
        assert films.Object(name).get()["Body"].read() == kept
        assert len(kept) == recording["file_size"] > 16 << 20
        assert list(store.multipart_uploads.all()) == list(films.multipart_uploads.all()) == []
        keys = {each.key.partition("/")[0] for each in store.objects.all()}
        assert keys <= {recording["id"], ".farm"}, keys
    print(f"{length:.1f} s in the file of {len(kept) >> 20} MiB")


def wait_until_resumed(farm: RunningFarm, recording_id: str) -> float:
    """Wait until another node has begun a take; the time at which it did."""
    deadline = time.monotonic() + 120
    while True:
        timeline = farm.answer(farm.client.get(f"/v2/recordings/{recording_id}"))["timeline"]
        events = [entry["event"] for entry in timeline]
        gone = [place for place, entry in enumerate(timeline) if "is gone" in (entry.get("fault") or "")]
        if gone and "take_began" in events[gone[-1] :]:
            entry = timeline[events.index("take_began", gone[-1])]
            return datetime.fromisoformat(entry["time"]).timestamp()
        assert time.monotonic() < deadline, timeline
        time.sleep(0.2)


def lose_a_node(
    machines: Machines, page: str, directory: Path, **fields: Any
) -> tuple[dict[str, Any], float]:
    """Record a page on a node that is lost with its disk, and on another; the recording, and its length."""
    farm = machines.farm
    with machines.node("lost") as lost:
        started = farm.start(url=page, audio_config={"export_file": True}, **fields)
        farm.wait_for_take(started["id"], 1, 90)
        with machines.node("stays"):
            time.sleep(LONG)
            killed = time.time()
            kill(lost)
            if "storage_config" in fields:
                assert list(machines.directory.glob("lost/spool/*/out/.store.ahead"))
            shutil.rmtree(machines.directory / "lost")
            resumed = wait_until_resumed(farm, started["id"])
            time.sleep(RECORDED)
            farm.order(started["id"], "stop")
            recording = farm.wait_for(started["id"], "UPLOADED")
            assert (recording["error"], machines.node_of(started["id"])) == (None, "stays")
            (missing,) = [entry for entry in recording["timeline"] if entry["event"] == "missing"]
            until = datetime.fromisoformat(missing["time"]).timestamp()
            assert killed - until < 6 * patience(), recording["timeline"]
            assert missing["seconds"] == pytest.approx(resumed - until, abs=0.5), recording["timeline"]
            length = decoded_seconds(farm.download(recording, directory / "file.mp4"))
            assert length == pytest.approx(
                sum(take["duration_ns"] for take in recording["takes"]) / 1e9, abs=0.2
            )
            # The last take of the lost node is there up to where nothing is any more.
            last = [take for take in takes_began(recording) if take.timestamp() < killed][-1]
            number = sum(take.timestamp() < killed for take in takes_began(recording)) - 1
            restored = last.timestamp() + recording["takes"][number]["duration_ns"] / 1e9
            assert restored == pytest.approx(until, abs=0.3)
            print(f"{killed - until:.1f} s before the loss; {missing['message']}")
            return recording, length


@pytest.mark.timeout(500)
def test_node_that_was_stopped_for_long_should_give_way(pages: str, tmp_path: Path) -> None:
    with running_machines(tmp_path) as machines, machines.node("stops") as stops:
        farm = machines.farm
        started = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(started["id"], 1, 90)
        with machines.node("stays"):
            time.sleep(RECORDED)
            halted = tree(stops)
            began = time.monotonic()
            for process in halted:
                process.suspend()
            try:
                farm.wait_for_take(started["id"], 2, 120)
                time.sleep(max(0.0, began + STOPPED - time.monotonic()))
            finally:
                for process in halted:
                    process.resume()
            resumed = time.monotonic()
            while encoders(stops):
                assert time.monotonic() - resumed < 60
                time.sleep(0.1)
            gave_way = time.monotonic() - resumed
            assert machines.node_of(started["id"]) == "stays"
            farm.order(started["id"], "stop")
            recording = farm.wait_for(started["id"], "UPLOADED")
            assert (recording["error"], takes_of(recording)) == (None, 2)
            numbers = [entry["take"] for entry in recording["timeline"] if entry["event"] == "take_began"]
            assert numbers[:2] == [0, 1]
            aside = wait_until_set_aside(machines, "stops", started["id"])
            assert seconds_of(aside) > RECORDED - 2.2
    print(f"gave way {gave_way:.1f} s after it went on")


@pytest.mark.timeout(600)
def test_nobody_should_be_taken_over_because_redis_was_away(pages: str, tmp_path: Path) -> None:
    with running_machines(tmp_path) as machines, machines.node("one"):
        farm = machines.farm
        small = {"width": 640, "height": 360}
        first = farm.start(url=f"{pages}/page.html", meeting_id="a", video_config=small)
        farm.wait_for_take(first["id"], 1, 90)
        with machines.node("two"):
            second = farm.start(url=f"{pages}/page.html", meeting_id="b", video_config=small)
            farm.wait_for_take(second["id"], 1, 90)
            machines.redis.process.send_signal(signal.SIGKILL)
            machines.redis.process.wait(10)
            away = time.monotonic()
            answer = farm.client.put(f"/v2/recordings/{first['id']}", json={"action": "stop"})
            assert answer.status_code == 503
            time.sleep(max(0.0, away + AWAY - time.monotonic()))
            machines.redis.start_again()
            wait_until_healthy(farm)
            # Longer than it takes to be taken for gone.
            time.sleep(2 * GONE_AFTER)
            farm.order(first["id"], "pause")
            farm.wait_for(first["id"], "PAUSED")
            farm.order(first["id"], "resume")
            farm.wait_for_take(first["id"], 2, 60)
            for started, name in ((first, "one"), (second, "two")):
                farm.order(started["id"], "stop")
                recording = farm.wait_for(started["id"], "UPLOADED")
                assert machines.node_of(started["id"]) == name
                assert faults_of(recording) == []
                assert recording["recording_duration"] > AWAY + GONE_AFTER
