from datetime import UTC, datetime, timedelta

from recording_farm.farm.recording.model import Status, TimelineEntry
from recording_farm.farm.recording.timeline import (
    NOTHING,
    missing_since_loss_of,
    node_with_takes,
    recorded_elsewhere,
    take_overs,
    was_given_back,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def began(seconds: float, take: int) -> TimelineEntry:
    return TimelineEntry(time=at(seconds), event="take_began", take=take)


def ended(seconds: float, take: int) -> TimelineEntry:
    return TimelineEntry(time=at(seconds), event="take_ended", take=take)


def state(seconds: float, status: Status) -> TimelineEntry:
    return TimelineEntry(time=at(seconds), status=status)


def gone(seconds: float, node: str) -> TimelineEntry:
    return TimelineEntry(time=at(seconds), event="fault", fault="gone", node=node)


TWO_NODES = (
    state(0, Status.INVOKED),
    began(2, 0),
    state(2, Status.RECORDING),
    ended(12, 0),
    state(12, Status.PAUSED),
    began(20, 1),
    state(20, Status.RECORDING),
    gone(25.5, "a"),
)


def test_what_other_nodes_recorded_should_be_counted_until_they_were_last_heard() -> None:
    elsewhere = recorded_elsewhere(TWO_NODES, here=set())
    assert elsewhere.recorded_us == 15_500_000
    assert (elsewhere.began, elsewhere.next_take) == (at(2), 2)


def test_takes_that_lie_here_should_not_be_counted_twice() -> None:
    assert recorded_elsewhere(TWO_NODES, here={0, 1}) == NOTHING
    timeline = (*TWO_NODES, began(45, 2), ended(50, 2))
    elsewhere = recorded_elsewhere(timeline, here={2})
    assert (elsewhere.recorded_us, elsewhere.next_take) == (15_500_000, 3)


def test_nothing_recorded_should_be_nothing_elsewhere() -> None:
    assert recorded_elsewhere((state(0, Status.INVOKED), gone(3, "a")), here=set()) == NOTHING


def test_takes_should_be_with_the_last_node_that_began_one() -> None:
    assert node_with_takes(TWO_NODES[:-1]) is None
    assert node_with_takes(TWO_NODES) == "a"
    assert node_with_takes((*TWO_NODES, gone(60, "b"))) == "a"
    assert node_with_takes((*TWO_NODES, began(50, 2), gone(60, "b"))) == "b"
    assert node_with_takes((state(0, Status.INVOKED), gone(3, "a"))) is None


def test_take_overs_should_be_counted_since_a_moment() -> None:
    timeline = (*TWO_NODES, gone(60, "b"), gone(400, "c"))
    assert [take_overs(timeline, at(seconds)) for seconds in (0, 30, 100, 500)] == [3, 2, 1, 0]


def test_recording_should_be_given_back_while_the_other_node_has_begun_no_take() -> None:
    taken_over = (began(2, 0), gone(25.5, "a"))
    assert was_given_back(taken_over, "a")
    assert not was_given_back(taken_over, "b")
    assert not was_given_back((*taken_over, began(40, 1)), "a")
    assert not was_given_back((began(2, 0),), "a")


def test_missing_should_be_looked_for_behind_the_loss_of_the_node() -> None:
    missing = TimelineEntry(time=at(24), event="missing", seconds=16.5)
    assert missing_since_loss_of((began(2, 0), gone(25.5, "a"), missing), "a") == (at(24), at(40.5))
    assert missing_since_loss_of((missing, began(2, 0), gone(25.5, "a")), "a") is None
    assert missing_since_loss_of((began(2, 0), gone(25.5, "a"), missing), "b") is None
