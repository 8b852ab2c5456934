"""The drawing of a timeline, to scale."""

from datetime import UTC, datetime, timedelta
from typing import Any

from recording_farm.api.portal.timeline import drawing_of

BEGAN = datetime(2026, 1, 15, 10, tzinfo=UTC)


def entry(second: float, event: str, **fields: Any) -> dict[str, Any]:
    return {"time": (BEGAN + timedelta(seconds=second)).isoformat(), "event": event, **fields}


def takes(*seconds: float) -> list[dict[str, Any]]:
    """The API's `takes` of a file."""
    return [{"take": number, "duration_ns": round(length * 1e9)} for number, length in enumerate(seconds)]


def test_recording_without_a_take_should_have_no_drawing() -> None:
    assert drawing_of([entry(0, "state", status="INVOKED")], BEGAN, is_over=False) is None


def test_pause_should_be_a_gap_that_the_file_does_not_have() -> None:
    drawing = drawing_of(
        [
            entry(-1, "state", status="INVOKED"),
            entry(0, "take_began", take=0),
            entry(0.01, "state", status="RECORDING"),
            entry(10, "take_ended", take=0),
            entry(10.01, "state", status="PAUSED"),
            entry(30, "take_began", take=1),
            entry(30.01, "state", status="RECORDING"),
            entry(40, "take_ended", take=1),
            entry(40, "state", status="UPLOADING"),
        ],
        BEGAN + timedelta(seconds=100),
        is_over=True,
    )
    assert drawing is not None
    assert (drawing.seconds, drawing.recorded, drawing.is_running) == (40, 20, False)
    assert [(take.start, take.end, take.at) for take in drawing.takes] == [(0, 10, 0), (30, 40, 10)]
    (gap,) = drawing.gaps
    assert (gap.start, gap.end, gap.kind, gap.at) == (10, 30, "pause", 10)


def test_take_that_lost_frames_should_be_as_long_as_it_is_in_the_file() -> None:
    entries = [
        entry(0, "take_began", take=0),
        entry(12, "take_ended", take=0),
        entry(12.5, "take_began", take=1),
        entry(24.5, "fault", fault="the encoder is too slow"),
        entry(25, "take_began", take=2),
        entry(125, "take_ended", take=2),
    ]
    seconds = [12.0, 4.5, 70.0]
    drawing = drawing_of(entries, BEGAN, is_over=True, in_file=takes(*seconds))
    assert drawing is not None
    assert [(take.start, take.end, take.at) for take in drawing.takes] == [
        (0, 12, 0),
        (12.5, 17, 12),
        (25, 95, 16.5),
    ]
    assert [(gap.kind, gap.start, gap.end) for gap in drawing.gaps] == [
        ("gap", 12, 12.5),
        ("gap", 17, 25),
        ("gap", 95, 125),
    ]
    assert drawing.recorded == sum(seconds)
    assert drawing.seconds == drawing.recorded + sum(gap.seconds for gap in drawing.gaps)


def test_running_recording_should_not_count_the_time_that_the_encoder_took_to_end() -> None:
    entries = [
        entry(0, "take_began", take=0),
        entry(10.8, "take_ended", take=0, seconds=10.0),
        entry(20, "take_began", take=1),
    ]
    drawing = drawing_of(entries, BEGAN + timedelta(seconds=25), is_over=False)
    assert drawing is not None
    assert [(take.start, take.end, take.at) for take in drawing.takes] == [(0, 10, 0), (20, 25, 10)]


def test_take_that_the_file_does_not_have_should_be_a_gap() -> None:
    entries = [
        entry(0, "take_began", take=0),
        entry(10, "fault", fault="x"),
        entry(11, "take_began", take=1),
        entry(20, "take_ended", take=1),
    ]
    drawing = drawing_of(entries, BEGAN, is_over=True, in_file=takes(10))
    assert drawing is not None
    assert [take.label for take in drawing.takes] == ["Take 1"]
    assert [(gap.start, gap.end) for gap in drawing.gaps] == [(10, 20)]


def test_takes_of_an_older_version_should_be_scaled_to_the_file() -> None:
    entries = [
        entry(0, "take_began", take=0),
        entry(10.8, "take_ended", take=0),
        entry(20, "take_began", take=1),
        entry(30.8, "take_ended", take=1),
    ]
    drawing = drawing_of(entries, BEGAN, is_over=True, file_seconds=20)
    assert drawing is not None
    assert [(take.start, round(take.end, 3), round(take.at, 3)) for take in drawing.takes] == [
        (0, 10, 0),
        (20, 30, 10),
    ]
    longer = drawing_of(entries, BEGAN, is_over=True, file_seconds=100)
    assert longer is not None
    assert longer.takes[0].end == 20  # no take lasts into the next one
    assert round(longer.takes[1].at, 3) == 50


def test_fault_should_end_a_take_and_be_marked_where_the_file_goes_on() -> None:
    drawing = drawing_of(
        [
            entry(0, "take_began", take=0),
            entry(5, "fault", fault="the browser died"),
            entry(8, "take_began", take=1),
        ],
        BEGAN + timedelta(seconds=20),
        is_over=False,
    )
    assert drawing is not None
    assert drawing.is_running
    assert (drawing.seconds, drawing.recorded) == (20, 17)
    (gap,), (fault,) = drawing.gaps, drawing.faults
    assert (gap.kind, gap.seconds) == ("gap", 3)
    assert (fault.time, fault.at, fault.label) == (5, 5, "the browser died")


def test_finding_that_has_not_ended_should_last_as_long_as_the_recording() -> None:
    drawing = drawing_of(
        [
            entry(0, "take_began", take=0),
            entry(2, "finding_began", finding="no_sound"),
            entry(4, "finding_began", finding="black_picture"),
            entry(6, "finding_ended", finding="no_sound", seconds=4),
            entry(10, "take_ended", take=0),
        ],
        BEGAN,
        is_over=True,
    )
    assert drawing is not None
    found = [(finding.label, finding.start, finding.end) for finding in drawing.findings]
    assert found == [("No audio", 2, 6), ("Black picture", 4, 10)]


def test_what_the_page_did_should_be_marked_with_its_words() -> None:
    drawing = drawing_of(
        [
            entry(0, "take_began", take=0),
            entry(5, "rejoined", message="the page reloaded itself"),
            entry(9, "take_ended", take=0),
        ],
        BEGAN,
        is_over=True,
    )
    assert drawing is not None
    assert [(event.at, event.label) for event in drawing.page] == [(5, "the page reloaded itself")]


def test_take_without_an_end_should_end_with_the_recording() -> None:
    entries = [entry(0, "take_began", take=0), entry(12, "state", status="UPLOADING")]
    drawing = drawing_of(entries, BEGAN + timedelta(days=1), is_over=True)
    assert drawing is not None
    assert (drawing.seconds, drawing.is_running) == (12, False)


def test_pause_should_be_drawn_while_it_lasts() -> None:
    entries = [
        entry(0, "take_began", take=0),
        entry(7, "take_ended", take=0),
        entry(7, "state", status="PAUSED"),
    ]
    drawing = drawing_of(entries, BEGAN + timedelta(seconds=60), is_over=False)
    assert drawing is not None
    assert (drawing.recorded, drawing.seconds, drawing.is_running) == (7, 60, False)
    assert [(gap.kind, gap.start, gap.end) for gap in drawing.gaps] == [("pause", 7, 60)]


def test_clock_that_was_set_back_should_turn_nothing_round() -> None:
    entries = [entry(0, "take_began", take=0), entry(-5, "take_ended", take=0), entry(-9, "fault", fault="x")]
    drawing = drawing_of(entries, BEGAN, is_over=True)
    assert drawing is not None
    assert drawing.seconds > 0
    assert drawing.takes[0].seconds == 0
    assert drawing.faults[0].time == 0
