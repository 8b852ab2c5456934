from datetime import UTC, datetime

import pytest

from recording_farm.farm.recording.files import output_file_name
from recording_farm.farm.recording.model import ACTIVE, FINAL, TRANSITIONS, Status, sources
from recording_farm.farm.storage.content_types import content_type

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def test_transitions_should_be_those_of_the_design() -> None:
    assert {(one.value, other.value) for one, following in TRANSITIONS.items() for other in following} == {
        ("INVOKED", "RECORDING"),
        ("RECORDING", "PAUSED"),
        ("PAUSED", "RECORDING"),
        ("RECORDING", "UPLOADING"),
        ("PAUSED", "UPLOADING"),
        ("UPLOADING", "UPLOADED"),
        ("INVOKED", "ERRORED"),
        ("RECORDING", "ERRORED"),
        ("PAUSED", "ERRORED"),
        ("UPLOADING", "ERRORED"),
    }
    assert frozenset({Status.UPLOADED, Status.ERRORED}) == FINAL
    assert not ACTIVE & FINAL
    assert sources(Status.UPLOADING) == {Status.RECORDING, Status.PAUSED}


@pytest.mark.parametrize(
    ("prefix", "meeting_id", "suffix", "name"),
    [
        (None, "demo", ".mp4", "demo_1767323045678.mp4"),
        ("Physics_9am", "demo", ".webm", "Physics_9am_demo_1767323045678.webm"),
        (None, "../../etc/passwd", ".mp4", "_etc_passwd_1767323045678.mp4"),
        (None, "-rf", ".mp4", "rf_1767323045678.mp4"),
        (None, 'a"b\u202ec;d e', ".mp4", "a_b_c_d_e_1767323045678.mp4"),
        (None, "会議", ".mp4", "__1767323045678.mp4"),
        (None, "x" * 128, ".mp4", f"{'x' * 100}_1767323045678.mp4"),
    ],
)
def test_output_file_name_should_be_safe(prefix: str | None, meeting_id: str, suffix: str, name: str) -> None:
    assert output_file_name(prefix, meeting_id, MOMENT, suffix) == name


def test_content_type_should_follow_the_name() -> None:
    assert [content_type(name) for name in ("a.mp4", "a.b.webm", "a.html")] == [
        "video/mp4",
        "video/webm",
        "application/octet-stream",
    ]
