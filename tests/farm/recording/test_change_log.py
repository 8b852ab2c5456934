"""A recording has one line in the log when it starts, and one when it ends."""

import pytest

from recording_farm.farm.notice import NOTICE
from recording_farm.farm.recording.model import (
    NODE_SHUT_DOWN,
    STOPPED_BEFORE_START,
    Failure,
    Reason,
    ReasonKind,
    Status,
)
from testkit.farm import Farm

ERROR = Failure(code="recording_failed", message="the page did not load")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == NOTICE]


def test_recording_should_log_one_line_when_it_starts_and_one_when_it_ends(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(NOTICE)
    recording = farm.add(meeting_id="demo", node="node-1")
    for status in (Status.RECORDING, Status.PAUSED, Status.RECORDING):
        farm.records.change_state(recording.id, status)
    reason = Reason(reason=ReasonKind.API_CALL)
    farm.records.change_state(recording.id, Status.UPLOADING, stop_reason=reason)
    farm.records.change_state(recording.id, Status.UPLOADED, recording_duration=227, file_size=12_345_678)
    assert lines(caplog) == [
        f"recording started: {recording.id}, meeting demo, node node-1",
        f"recording ended: {recording.id}, meeting demo, 227 s, 12.3 MB, stop reason API_CALL",
    ]


@pytest.mark.parametrize(
    ("size", "logged"), [(46_300, "0.046 MB"), (11_399, "0.011 MB"), (99_960, "0.100 MB"), (0, "0.0 MB")]
)
def test_small_file_should_not_be_logged_as_empty(
    farm: Farm, caplog: pytest.LogCaptureFixture, size: int, logged: str
) -> None:
    caplog.set_level(NOTICE)
    recording = farm.add(meeting_id="demo")
    for status in (Status.RECORDING, Status.UPLOADING):
        farm.records.change_state(recording.id, status)
    farm.records.change_state(recording.id, Status.UPLOADED, recording_duration=15, file_size=size)
    assert f", 15 s, {logged}, " in lines(caplog)[-1]


def test_shutdown_of_a_node_should_be_logged_with_the_reason_that_clients_see(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(NOTICE)
    recording = farm.add(meeting_id="demo")
    reason = Reason(reason=ReasonKind.INTERNAL_ERROR)
    error = Failure(code=NODE_SHUT_DOWN, message="the node was shut down")
    farm.records.change_state(recording.id, Status.RECORDING)
    farm.records.change_state(recording.id, Status.UPLOADING, stop_reason=reason, error=error)
    farm.records.change_state(recording.id, Status.UPLOADED)
    assert "stop reason NODE_SHUT_DOWN" in lines(caplog)[-1]


def test_recording_that_fails_should_log_why(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(NOTICE)
    recording = farm.add(meeting_id="demo")
    farm.records.change_state(recording.id, Status.ERRORED, error=ERROR)
    assert lines(caplog) == [
        f"recording failed: {recording.id}, meeting demo, recording_failed: the page did not load"
    ]


def test_cancelled_recording_should_not_be_logged_as_failed(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(NOTICE)
    recording = farm.add(meeting_id="demo")
    error = Failure(code=STOPPED_BEFORE_START, message="it was stopped")
    farm.records.change_state(recording.id, Status.ERRORED, error=error)
    assert lines(caplog) == [
        f"recording cancelled: {recording.id}, meeting demo, stopped before its first frame"
    ]
