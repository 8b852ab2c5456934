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


def test_pause_on_a_node_that_is_lost_with_its_take_should_begin_with_the_command() -> None:
    shown = recording(
        entry(0, "take_began"),
        entry(20.5, "state", "PAUSED"),
        entry(25, "fault"),
        entry(30, "take_began"),
        entry(60, "take_ended"),
    )
    assert wanted_seconds(shown) == pytest.approx(50.5)


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
    results = [Result(PLANNED, shown, 58.5, (struck[0],)), Result(PLANNED, None, None)]
    lines = list(table(results, struck))
    assert lines[1].endswith("UPLOADED API_CALL; page killed at 12")
    assert "never started" in lines[2]
    assert lines[-2:] == [
        "1 started, 1 uploaded, 2 faults; 1.5 s lost, 1.5 s at most in one",
        "nothing unfinished is in the storages",
    ]
    lines = list(table(results, struck, ["the store has upload of a/film.mp4"]))
    assert lines[-2:] == ["unfinished, in the storages:", "  the store has upload of a/film.mp4"]


def lost_at(seconds: float) -> Struck:
    """A node and its disk."""
    return Struck(
        seconds, "node lost with its disk", frozenset({"one"}), lost=BEGAN + timedelta(seconds=seconds)
    )


def missing(until: float, seconds: float) -> dict[str, Any]:
    return entry(until, "missing") | {"seconds": seconds}


TAKES = entry(0, "take_began"), entry(40, "take_began")
"""The second one is that of the node that took over."""


@pytest.mark.parametrize(
    ("told", "file_seconds", "problem"),
    [
        ([missing(17, 23)], 37.0, None),
        ([missing(17, 23)], 36.2, None),
        ([missing(17, 23)], 30.0, r"30.0 s are not in the file, the timeline tells of 23.0 s"),
        ([missing(10, 30)], 30.0, r"10.0 s before the loss of a disk are missing"),
        ([], 20.0, r"the timeline does not tell what was lost with a disk"),
    ],
)
def test_disk_should_cost_six_seconds_and_the_gap_and_the_timeline_should_tell(
    told: list[dict[str, Any]], file_seconds: float, problem: str | None
) -> None:
    result = Result(PLANNED, recording(TAKES[0], *told, TAKES[1]), file_seconds, (lost_at(20),))
    assert result.is_good == (problem is None)
    assert (problem or "") in "; ".join(result.problems)
    assert bool(result.problems) == (problem is not None)
    # Without a lost disk nothing of it is asked.
    assert Result(PLANNED, recording(*TAKES), 20, (Struck(20, "page killed", frozenset({"one"})),)).is_good


def test_disk_that_had_nothing_of_a_take_should_need_no_entry() -> None:
    paused = recording(entry(0, "take_began"), entry(10, "take_ended"), entry(10, "state", "PAUSED"))
    assert Result(PLANNED, paused, 10, (lost_at(20),)).is_good
    just_begun = recording(entry(15, "take_began"), entry(40, "take_began"))
    assert Result(PLANNED, just_begun, 20, (lost_at(20),)).is_good
    assert Result(PLANNED, recording(entry(40, "take_began")), 20, (lost_at(20),)).is_good


def test_gaps_of_other_faults_should_be_theirs() -> None:
    other = Struck(50, "display stopped", frozenset({"one"}))
    shown = recording(TAKES[0], missing(17, 23), TAKES[1])
    assert Result(PLANNED, shown, 27.0, (lost_at(20), other)).is_good
