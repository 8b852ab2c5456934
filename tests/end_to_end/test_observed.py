"""What a farm tells of itself while it records: metrics, logs and traces."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from recording_farm.farm.cli.health import check_health
from testkit.metrics import values_of
from testkit.network.ports import free_port
from testkit.receivers import Receiver, receiver
from testkit.running_farm import RunningFarm, running_farm
from testkit.settings import settings_with

pytestmark = pytest.mark.long

TOKEN = "a-token-of-enough-characters"
LONG_ENOUGH = 13.0
"""Seconds after which the memory of a recording has been looked at; that is done each ten."""

Metrics = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Observed:
    """A farm that has made one recording, and what it told meanwhile."""

    farm: RunningFarm
    recording: dict[str, Any]
    before: Metrics
    during: Metrics
    node_during: Metrics
    after: Metrics
    traces: Receiver
    node_port: int


def read(address: str) -> Metrics:
    answer = httpx.get(f"{address}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)
    assert answer.status_code == 200
    return values_of(answer.text)


def wait_for_metrics(farm: RunningFarm, is_so: Callable[[Metrics], bool]) -> Metrics:
    deadline = time.monotonic() + 60
    while not is_so(found := read(str(farm.client.base_url))):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def observed(pages: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    node_port = free_port()
    with (
        receiver() as webhooks,
        receiver() as traces,
        running_farm(
            tmp_path_factory.mktemp("observed"),
            FARM_SLOTS="2",
            FARM_METRICS_TOKEN=TOKEN,
            FARM_NODE_PORT=str(node_port),
            FARM_NODE="node-1",
            FARM_LOG_FORMAT="json",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{traces.port}/v1/traces",
        ) as farm,
    ):
        address = str(farm.client.base_url)
        before = read(address)
        started = farm.start(url=f"{pages}/page.html", webhooks=[webhooks.url])
        farm.wait_for_take(started["id"], 1, 90)
        time.sleep(LONG_ENOUGH)
        during, node_during = read(address), read(f"http://127.0.0.1:{node_port}")
        farm.order(started["id"], "stop")
        recording = farm.wait_for(started["id"], "UPLOADED", timeout=90)
        # To a port where nobody listens.
        nowhere = {
            "type": "s3", "bucket": "b", "access_key": "k", "secret": "s",
            "endpoint": f"http://127.0.0.1:{free_port()}",
        }  # fmt: skip
        body = {"storage_config": nowhere}
        farm.answer(farm.client.post(f"/v2/recordings/{started['id']}/upload", json=body))
        webhooks.wait_for(4, 30)
        traces.wait_for(1, 60)
        after = wait_for_metrics(
            farm,
            lambda found: (
                any(name == "farm_transfer_failures_total" and "s3" in labels for name, *labels in found)
                and found["farm_webhook_attempts_total", "delivered"] >= 4
            ),
        )
        yield Observed(farm, recording, before, during, node_during, after, traces, node_port)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "metric",
    [
        ("farm_recordings_invoked_total",),
        ("farm_recordings_ended_total", "", "API_CALL", "UPLOADED"),
        ("farm_recorded_seconds_total",),
        ("farm_frames_captured_total",),
        ("farm_queue_wait_seconds_count",),
        ("farm_start_seconds_count",),
        ("farm_finish_seconds_count",),
        ("farm_encoder_speed_count",),
        ("farm_recording_peak_memory_bytes_count",),
        ("farm_transfers_total", "store", "done"),
        ("farm_webhook_attempts_total", "delivered"),
    ],
)
def test_count_should_move_with_a_recording(observed: Observed, metric: tuple[str, ...]) -> None:
    assert observed.before[metric] == 0
    assert observed.after[metric] > 0


def test_frames_lost_should_be_those_of_the_recording(observed: Observed) -> None:
    quality = observed.recording["quality"]
    assert observed.after["farm_frames_captured_total",] == quality["frames_captured"]
    assert observed.after["farm_frames_lost_total",] == quality["frames_lost"]
    assert observed.after["farm_frames_doubled_total",] == quality["frames_doubled"]


def test_transfers_results_should_be_apart_from_the_recordings(observed: Observed) -> None:
    """A transfer that fails leaves the recording UPLOADED, and is counted by itself."""
    assert observed.after["farm_recordings_ended_total", "", "API_CALL", "UPLOADED"] == 1
    assert not any(key[0] == "farm_recordings_ended_total" and "ERRORED" in key for key in observed.after)
    failures = [key for key in observed.after if key[0] == "farm_transfer_failures_total"]
    assert {place for _, _, place in failures} == {"s3"}


def test_state_should_be_shown_while_it_records(observed: Observed) -> None:
    during = observed.during
    assert (during["farm_recordings", "RECORDING"], observed.before["farm_recordings", "RECORDING"]) == (1, 0)
    assert (during["farm_slots", "node-1"], during["farm_slots_used", "node-1"]) == (2, 1)
    assert during["farm_load_ratio",] == 0.5
    assert observed.before["farm_load_ratio",] == 0
    assert during["farm_nodes", "alive"] == 1
    assert during["farm_redis_up",] == 1
    assert observed.after["farm_recordings", "RECORDING"] == 0
    assert observed.after["process_resident_memory_bytes",] > 1 << 20


def test_node_should_show_the_recording_and_its_memory(observed: Observed) -> None:
    node = observed.node_during
    assert (node["farm_node_slots", "node-1"], node["farm_node_slots_used", "node-1"]) == (2, 1)
    assert node["farm_recording_memory_bytes", "node-1", observed.recording["id"]] > 50 << 20
    assert 0 < node["farm_node_processors_busy_ratio", "node-1"] <= 1


def test_one_id_should_be_in_the_lines_of_all_parts(observed: Observed) -> None:
    lines = [json.loads(line) for line in observed.farm.log().splitlines() if line.startswith("{")]
    about = [line for line in lines if line.get("recording") == observed.recording["id"]]
    assert {
        "recording_farm.api.request_log",
        "recording_farm.farm.jobs.reporter",
        "recording_farm.farm.jobs.finish",
        "recording_farm.farm.jobs.transfer_attempt",
        "recording_farm.farm.webhooks.sender",
    } <= {line["logger"] for line in about}
    (invoked,) = [line for line in about if line["event"] == "POST /v2/recordings"]
    assert invoked["status"] == 200
    assert invoked["milliseconds"] > 0
    # Neither paths as they were sent nor queries are logged.
    assert not any("sig=" in line["event"] or observed.recording["id"] in line["event"].split("?")[0]
                   for line in lines if line["logger"] == "recording_farm.api.request_log")  # fmt: skip


def test_recordings_own_log_should_have_what_the_worker_did(observed: Observed) -> None:
    log = Path(observed.farm.data_dir) / "evidence" / observed.recording["id"] / "recorder.log"
    text = log.read_text()
    for part in ("take 0 started", "takes into", "was uploaded to"):
        assert part in text


def test_recording_should_be_one_trace_from_the_request_to_its_file(observed: Observed) -> None:
    spans = [
        span
        for received in observed.traces.received
        for of_resource in ExportTraceServiceRequest.FromString(received.body).resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]
    assert {UUID(bytes=span.trace_id) for span in spans} == {UUID(observed.recording["id"])}
    assert {span.name for span in spans} == {
        "recording",
        "wait and join",
        "record",
        "take",
        "cut and transfer",
    }
    (root,) = [span for span in spans if not span.parent_span_id]
    assert {span.parent_span_id for span in spans if span is not root} == {root.span_id}
    seconds = (root.end_time_unix_nano - root.start_time_unix_nano) / 1e9
    assert seconds > LONG_ENOUGH


def test_health_should_be_told_of_each_part_that_runs_here(observed: Observed) -> None:
    port = observed.farm.client.base_url.port
    settings = settings_with(Path("/nonexistent"), None, port=port, node_port=observed.node_port)
    assert check_health(settings) == {"api": True, "worker": True}
    nobody = settings_with(Path("/nonexistent"), None, port=free_port())
    assert check_health(nobody) == {}
