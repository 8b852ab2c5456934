import json
import subprocess
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from playwright._impl._driver import compute_driver_executable

from recording_farm.farm.recording.links import DownloadLink
from recording_farm.farm.recording.model import Caller, Failure, Reason, ReasonKind, Status
from recording_farm.farm.recording.transfers import (
    STORE,
    Transfer,
    TransferError,
    TransferEvent,
    TransferState,
)
from recording_farm.farm.webhooks.payload import status_update, transfer_update
from testkit.recordings import new_recording

RECORDING_ID = UUID("0f0e0d0c-0b0a-4900-8807-060504030201")


def at(second: int) -> datetime:
    return datetime(2026, 1, 31, 9, 0, second, 123456, UTC)


def payload(
    link: DownloadLink | None = None, files_expire_at: datetime | None = None, **fields: Any
) -> dict[str, Any]:
    defaults = {"id": RECORDING_ID, "meeting_id": "m", "invoked_time": at(0), "output_file_name": "m.mp4"}
    recording = new_recording(**(defaults | fields))
    content: dict[str, Any] = json.loads(status_update(recording, link, files_expire_at=files_expire_at))
    return content


def test_payload_of_a_new_recording_should_have_no_fields_of_later_states() -> None:
    assert payload() == {
        "event": "recording.statusUpdate",
        "recording": {
            "id": str(RECORDING_ID),
            "recordingId": str(RECORDING_ID),
            "meetingId": "m",
            "organizationId": "acme",
            "status": "INVOKED",
            "invokedTime": "2026-01-31T09:00:00.123Z",
            "outputFileName": "m.mp4",
        },
        "meeting": {
            "id": "m",
            "title": "m",
            "roomName": "m",
            "organizedBy": {"id": "acme", "name": "acme"},
        },
    }


def test_payload_of_a_finished_recording_should_tell_all() -> None:
    caller = Caller(type="ORGANIZATION", user_id="acme", name="acme")
    recording = payload(
        DownloadLink("https://farm.test/x?a=1&b=2", at(3)),
        at(4),
        transfers=[Transfer(target=STORE, state=TransferState.DONE)],
        status=Status.UPLOADED,
        started_time=at(1),
        stopped_time=at(2),
        file_size=216787,
        recording_duration=1,
        stop_reason=Reason(reason=ReasonKind.API_CALL, caller=caller),
        error=Failure(code="node_shut_down", message="the node was shut down"),
    )["recording"]
    expected = {
        "status": "UPLOADED",
        "startedTime": "2026-01-31T09:00:01.123Z",
        "stoppedTime": "2026-01-31T09:00:02.123Z",
        "fileSize": 216787,
        "recordingDuration": 1,
        "downloadUrl": "https://farm.test/x?a=1&b=2",
        "downloadUrlExpiry": "2026-01-31T09:00:03.123Z",
        "filesState": "KEPT",
        "filesExpireAt": "2026-01-31T09:00:04.123Z",
        "stopReason": "{'reason':'API_CALL','caller':{'type':'ORGANIZATION','user_Id':'acme','name':'acme'}}",
        "error": {"code": "node_shut_down", "message": "the node was shut down"},
    }
    assert recording | expected == recording


def test_payload_of_a_cancelled_recording_should_say_so() -> None:
    for code, cancelled in (("stopped_before_start", True), ("page_failed", None)):
        error = Failure(code=code, message="no file")
        assert payload(status=Status.ERRORED, error=error)["recording"].get("cancelled") is cancelled


def test_event_of_the_store_should_not_show_where_it_is_on_the_machine() -> None:
    error = TransferError(code="failed", message="/srv/store: disk full")
    failing = Transfer(target=STORE, attempts=3, event=TransferEvent.FAILING, error=error)
    body = transfer_update(new_recording(), failing)
    assert "/srv/store" not in body
    assert json.loads(body)["transfer"]["error"]["code"] == "failed"
    done = Transfer(
        target=STORE, state=TransferState.DONE, event=TransferEvent.DONE, location="file:///srv/store/x"
    )
    assert "/srv/store" not in transfer_update(new_recording(), done)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "Besprechung – Käse",
        "🧀",
        '"quoted" \\ and / slashed',
        "line\nbreak\ttab\b\f\r",
        "\x00\x01\x1f\x7f\x80",
        "\u2028\u2029\ufeff",
        "</script>",
        "1",
    ],
)
def test_body_should_be_what_javascript_makes_of_it_again(text: str) -> None:
    recording = new_recording(
        meeting_id=text,
        output_file_name="m.mp4",
        file_size=2**53 - 1,
        recording_duration=0,
        error=Failure(code="x", message=text),
    )
    body = status_update(recording, DownloadLink("https://farm.test/", at(0))).encode()
    assert b": " not in body.replace(text.encode(), b"")
    node, _ = compute_driver_executable()
    again = subprocess.run(
        [
            node,
            "-e",
            "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0, 'utf8'))))",
        ],
        input=body,
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert again.stdout == body
