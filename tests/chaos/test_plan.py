from chaos.faults import FAULTS
from chaos.plan import Choices, Plan, draw_plan

NAMES = tuple(FAULTS)


def plan(seed: int = 1, recordings: int = 20, seconds: float = 600) -> Plan:
    return draw_plan(seed, recordings, seconds, 2, Choices(NAMES, ("S3", "directory"), ("sshd",)))


def test_seed_should_give_the_same_plan_again() -> None:
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


def test_recordings_should_fill_the_slots_for_the_time() -> None:
    for seed in range(50):
        drawn = plan(seed)
        assert len(drawn.recordings) == 20
        assert all(39 <= recording.seconds <= 69 for recording in drawn.recordings)
        for recording in drawn.recordings:
            assert recording.pause_after is None or 0 < recording.pause_after < recording.seconds


def test_store_and_customers_should_be_drawn_too() -> None:
    plans = [plan(seed) for seed in range(50)]
    assert {drawn.store for drawn in plans} == {"S3", "directory"}
    assert {recording.customer for drawn in plans for recording in drawn.recordings} == {None, "sshd"}


def test_everything_should_break_before_anything_breaks_again() -> None:
    for seed in range(50):
        names = [fault.name for fault in plan(seed).faults]
        first = names[: len(NAMES)]
        assert len(set(first)) == len(first) >= len(NAMES)


def test_nothing_should_break_after_the_time() -> None:
    times = [fault.at for fault in plan(seconds=60).faults]
    assert times == sorted(times)
    assert 2 <= len(times) <= 6
    assert times[-1] < 60
