from typing import Any

from hostile.report import Result, table
from hostile.victim import Victim
from hostile.watch import Felt
from testkit.fidelity.measure import Fidelity


def victim(
    status: str = "UPLOADED", takes: int = 1, error: str | None = None, faults: tuple[str, ...] = ()
) -> Victim:
    recording: dict[str, Any] = {
        "status": status,
        "timeline": [{"event": "fault", "fault": fault} for fault in faults],
        "quality": {"takes": takes},
        "error": {"code": error} if error else None,
    }
    numbers = [*range(60), *range(63, 90)]
    times = [number / 30 for number in range(len(numbers))]
    fidelity = Fidelity(numbers, times, {30: 0.004}, 3.0) if status == "UPLOADED" else None
    return Victim(recording, fidelity)


def test_line_should_have_what_the_victim_lost_and_what_the_machine_felt() -> None:
    felt = Felt(answer_ms=12.4, memory=250_000_000, disk=3_000_000, processes=7)
    _, line, count = table([Result("disk", "its page: RECORDING", [], victim(), felt)])
    assert line.split()[:9] == ["disk", "UPLOADED", "3", "+4.0", "12", "250", "3", "7", "its"]
    assert "NOT HELD" not in line
    assert count == "1 of 1 attacks were held"


def test_broken_bound_should_be_reported_and_counted() -> None:
    _, line, count = table([Result("header", "it took all", ["a header has no limit"], victim(), Felt())])
    assert line.endswith("it took all; NOT HELD: a header has no limit")
    assert count == "0 of 1 attacks were held"


def test_victim_that_was_ended_should_count_as_not_held() -> None:
    result = Result("disk", "", [], victim("ERRORED", error="disk_full"), Felt())
    assert not result.is_good
    assert result.all_faults == ["the victim is ERRORED disk_full"]


def test_victim_in_two_takes_should_count_as_not_held() -> None:
    assert Result("disk", "", [], victim(takes=2), Felt()).all_faults == ["the victim is UPLOADED in 2 takes"]


def test_takes_of_a_slow_encoder_should_count_as_one() -> None:
    slow = victim(takes=2, faults=("the encoder ran at 0.61 of real time",))
    assert Result("workers", "", [], slow, Felt()).is_good
