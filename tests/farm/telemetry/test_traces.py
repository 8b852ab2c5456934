from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from recording_farm.farm.recording.findings import Finding
from recording_farm.farm.recording.model import Failure, Reason, ReasonKind, Recording, Status, TimelineEntry
from recording_farm.farm.recording.transfers import Transfer, TransferState
from recording_farm.farm.telemetry.trace_sender import TraceSender
from recording_farm.farm.telemetry.traces import open_sender
from testkit.recordings import new_recording

BEGIN = datetime(2026, 1, 31, 9, 0, 0, 123456, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def ended() -> Recording:
    states = [
        (Status.INVOKED, 0), (Status.RECORDING, 2), (Status.PAUSED, 10), (Status.RECORDING, 15),
        (Status.UPLOADING, 20), (Status.UPLOADED, 21),
    ]  # fmt: skip
    timeline = [
        *(TimelineEntry(status=status, time=at(seconds)) for status, seconds in states),
        TimelineEntry(event="take_began", take=0, time=at(2)),
        TimelineEntry(event="take_ended", take=0, time=at(10)),
        TimelineEntry(event="take_began", take=1, time=at(15)),
        TimelineEntry(event="fault", fault="the encoder died", time=at(16)),
        TimelineEntry(event="finding_began", finding=Finding.BLACK_PICTURE, time=at(17)),
    ]
    return new_recording(
        status=Status.UPLOADED,
        invoked_time=BEGIN,
        timeline=sorted(timeline, key=lambda entry: entry.time),
        stop_reason=Reason(reason=ReasonKind.API_CALL),
        transfers=(Transfer(target="store", state=TransferState.DONE, attempts=1, first_tried=at(20.5)),),
        node="node-1",
        recording_duration=13,
    )


def sent(recording: Recording) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    sender = TraceSender("node-1", SimpleSpanProcessor(exporter))
    sender.send(recording)
    sender.close()
    return list(exporter.get_finished_spans())


def seconds_of(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    begin = int(BEGIN.timestamp()) * 10**9 + 123_456_000
    return (span.start_time - begin) / 1e9, (span.end_time - begin) / 1e9


def test_recording_should_be_one_trace_with_its_id() -> None:
    recording = ended()
    spans = sent(recording)
    assert {span.context.trace_id for span in spans} == {recording.id.int}
    (root,) = [span for span in spans if span.parent is None]
    assert (root.name, seconds_of(root)) == ("recording", (0, 21))
    others = [span for span in spans if span is not root]
    assert all(span.parent is not None and span.parent.span_id == root.context.span_id for span in others)
    assert sorted((span.name, *seconds_of(span)) for span in others) == [
        ("cut and transfer", 20, 21),
        ("pause", 10, 15),
        ("record", 2, 10),
        ("record", 15, 20),
        ("take", 2, 10),
        ("take", 15, 21),
        ("wait and join", 0, 2),
    ]
    assert [event.name for event in root.events] == ["fault", "finding_began", "transfer"]
    assert root.attributes is not None
    assert root.attributes["farm.recording"] == str(recording.id)
    assert root.attributes["farm.reason"] == "API_CALL"
    assert root.status.status_code is StatusCode.UNSET


def test_two_recordings_should_be_two_traces() -> None:
    exporter = InMemorySpanExporter()
    sender = TraceSender("node-1", SimpleSpanProcessor(exporter))
    recordings = [ended() for _ in range(2)]
    for recording in recordings:
        sender.send(recording)
    sender.close()
    traces = {span.context.trace_id for span in exporter.get_finished_spans()}
    assert traces == {recording.id.int for recording in recordings}


def test_recording_without_a_file_should_be_an_error() -> None:
    states = (
        TimelineEntry(status=Status.INVOKED, time=at(0)),
        TimelineEntry(status=Status.ERRORED, time=at(600)),
    )
    failure = Failure(code="no_free_slot", message="no slot")
    spans = sent(new_recording(status=Status.ERRORED, timeline=states, error=failure))
    (root,) = [span for span in spans if span.parent is None]
    assert root.status.status_code is StatusCode.ERROR
    assert root.attributes is not None
    assert root.attributes["farm.error"] == "no_free_slot"


def test_nothing_should_be_sent_unless_it_is_said_where(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert open_sender("node-1") is None


def test_open_telemetrys_own_variables_should_say_who_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    attributes = sent(ended())[0].resource.attributes
    assert (attributes["service.name"], attributes["service.instance.id"]) == ("recording-farm", "node-1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "films")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.instance.id=seven")
    attributes = sent(ended())[0].resource.attributes
    assert (attributes["service.name"], attributes["service.instance.id"]) == ("films", "seven")
    assert attributes["deployment.environment"] == "test"


def test_unknown_protocol_should_be_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    for protocol, is_told in (("http/protobuf", False), ("grpc", True)):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        sender = open_sender("node-1")
        assert sender is not None
        sender.close()
        assert ("grpc" in caplog.text) is is_told
