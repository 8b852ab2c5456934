"""The words that the pages use for the fields of a recording."""

from typing import Any

import pytest

from recording_farm.api.portal.recording_words import (
    copy_in_words,
    finding_in_words,
    ordinal,
    quality_warning,
    queue_in_words,
    stop_in_words,
    upload_warning,
)
from recording_farm.farm.recording.findings import Finding


def test_each_finding_should_have_words_of_its_own() -> None:
    words = {finding_in_words(finding) for finding in Finding}
    assert len(words) == len(Finding)
    assert finding_in_words("of_a_newer_version") == "Of a newer version"


@pytest.mark.parametrize(
    ("quality", "warning"),
    [
        (None, ""),
        ({"frames_captured": 9000, "frames_lost": 0}, ""),
        ({"frames_captured": 8999, "frames_lost": 1}, ""),
        ({"frames_captured": 9910, "frames_lost": 90}, "0.9 % of the frames are lost"),
        ({"frames_captured": 0, "frames_lost": 10}, "100 % of the frames are lost"),
        ({"findings": {"no_sound": {"times": 1, "seconds": 40.2}}}, "No audio for 40 s"),
        ({"findings": {"meeting_empty": {"times": 1, "seconds": 60.0}}}, ""),
    ],
)
def test_only_what_a_viewer_notices_should_be_a_warning(quality: Any, warning: str) -> None:
    assert quality_warning({"quality": quality}) == warning


def test_failed_upload_should_be_a_warning_until_it_is_done() -> None:
    transfer = {"target": "aws", "attempts": 2, "error": {"code": "x", "message": "no such bucket"}}
    for state, warning in (
        ("WAITING", "Upload to aws is retried: no such bucket"),
        ("GIVEN_UP", "Upload to aws failed: no such bucket"),
        ("DONE", ""),
    ):
        assert upload_warning({"transfers": [transfer | {"state": state}]}) == warning


@pytest.mark.parametrize(
    ("in_parts", "uploaded", "behind", "running", "ended"),
    [
        (None, None, None, "", ""),
        (True, 0, 95.4, "0 B uploaded, 95 s behind", "0 B uploaded"),
        (True, 24 << 20, 21.4, "24.0 MiB uploaded, 21 s behind", "24.0 MiB uploaded"),
        (True, 24 << 20, 400.0, "24.0 MiB uploaded, 7 min behind", "24.0 MiB uploaded"),
        (False, 0, 95.4, "Uploaded when the recording ends", ""),
        (False, None, None, "Stored when the recording ends", ""),
    ],
)
def test_copy_should_say_how_far_it_is_until_it_is_done(
    in_parts: Any, uploaded: Any, behind: Any, running: str, ended: str
) -> None:
    transfer = {"in_parts": in_parts, "uploaded_bytes": uploaded, "behind_seconds": behind}
    for is_running, words in ((True, running), (False, ended)):
        assert copy_in_words(transfer | {"state": "WAITING"}, is_running=is_running) == words
    done = {"state": "DONE", "in_parts": None, "uploaded_bytes": 1, "behind_seconds": 0.0}
    assert copy_in_words(done, is_running=False) == ""


@pytest.mark.parametrize(
    ("position", "waiting", "words"),
    [
        (None, None, ""),
        (1, None, "Next in the queue"),
        (503, None, "503rd in the queue"),
        (2, {"message": "All slots are in use."}, "2nd in the queue. All slots are in use"),
    ],
)
def test_waiting_recording_should_say_its_position_and_why_it_waits(
    position: int | None, waiting: Any, words: str
) -> None:
    assert queue_in_words({"queue_position": position, "waiting": waiting}) == words


def test_end_should_be_reported_with_its_cause() -> None:
    recording = {"stop_reason": {"reason": "INTERNAL_ERROR"}, "error": {"code": "disk_full"}}
    assert stop_in_words(recording) == "ended by the farm (disk full)"
    assert (
        stop_in_words({"stop_reason": {"reason": "NODE_SHUT_DOWN"}}) == "ended by the farm (node shut down)"
    )
    by_host = {"reason": "API_CALL", "caller": {"type": "USER", "name": "Ada"}}
    assert stop_in_words({"stop_reason": by_host}) == "stopped by Ada in the meeting"
    assert stop_in_words({}) == ""


def test_numbers_should_be_written_as_people_write_them() -> None:
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 21, 111, 503)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "111th", "503rd")
    ]
