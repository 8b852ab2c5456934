from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chaos.plan import PlannedRecording
from chaos.report import Result, Struck, lost_seconds, table, wanted_seconds

BEGAN = datetime(2026, 1, 31, 9, tzinfo=UTC)
PLANNED = PlannedRecording("chaos-01", 60, by_order=True, pause_after=None)


def at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat()


def entry(seconds: float, event: str, status: str | None = None) -> dict[str, Any]:
    return {"time": at(seconds), "event": event, "status": status, "take": None, "fault": None}


def recording(
    *timeline: dict[str, Any], stopped: float | None = 60, status: str = "UPLOADED"
) -> dict[str, Any]:
    return {
        "id": "one",
        "status": status,
        "timeline": timeline,
        "stopped_time": None if stopped is None else at(stopped),
        "stop_reason": {"reason": "API_CALL"},
        "error": None,
        "quality": {"takes": 2},
    }


def test_gaps_should_be_wanted_and_pauses_should_not() -> None:
    shown = recording(
        entry(-2, "state", "INVOKED"),
        entry(0, "take_began"),
        entry(0.1, "state", "RECORDING"),
        entry(10, "take_ended"),
        entry(10, "fault"),
        entry(13, "take_began"),
        entry(20, "take_ended"),
        entry(20.5, "state", "PAUSED"),
        entry(25, "fault"),
        entry(30, "take_began"),
        entry(30.2, "state", "RECORDING"),
        entry(60, "take_ended"),
    )
    assert wanted_seconds(shown) == pytest.approx(50)
    assert lost_seconds(Result(PLANNED, shown, 47.0)) == pytest.approx(3)


def test_pause_that_lasts_to_the_end_should_not_be_wanted() -> None:
    shown = recording(entry(0, "take_began"), entry(20, "take_ended"), entry(20.5, "state", "PAUSED"))
    assert wanted_seconds(shown) == pytest.approx(20)


def test_recording_that_never_began_or_is_not_over_should_have_nothing_to_compare() -> None:
    assert wanted_seconds(recording(entry(0, "state", "INVOKED"))) is None
    assert wanted_seconds(recording(entry(0, "take_began"), stopped=None)) is None
    assert lost_seconds(Result(PLANNED, None, None)) is None


@pytest.mark.parametrize(
    ("status", "file_seconds", "good"),
    [
        ("UPLOADED", 50.0, True),
        ("UPLOADED", None, False),
        ("RECORDING", None, False),
        ("ERRORED", None, False),
    ],
)
def test_only_what_is_uploaded_and_plays_should_be_good(
    status: str, file_seconds: float | None, *, good: bool
) -> None:
    shown = recording(entry(0, "take_began"), status=status)
    assert Result(PLANNED, shown, file_seconds).is_good == good
    assert not Result(PLANNED, None, None).is_good


def test_table_should_name_what_hit_a_recording_and_count() -> None:
    shown = recording(entry(0, "take_began"))
    struck = [Struck(12, "page killed", frozenset({"one"})), Struck(30, "API killed", frozenset())]
    lines = list(table([Result(PLANNED, shown, 58.5), Result(PLANNED, None, None)], struck))
    assert lines[1].endswith("UPLOADED API_CALL; page killed at 12")
    assert "never started" in lines[2]
    assert lines[-1] == "1 started, 1 uploaded, 2 faults; 1.5 s lost, 1.5 s at most in one"
