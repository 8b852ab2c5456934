import os
import signal
import subprocess
from itertools import chain, repeat

import pytest

from recording_farm.encoder.takes.take import waits_for_processor
from recording_farm.encoder.takes.watchdog import (
    HANGING_SAMPLES,
    JUMP_US,
    SAMPLE_SECONDS,
    SPINNING_SAMPLES,
    Finding,
    Sample,
    Watchdog,
)

SAMPLE_US = round(SAMPLE_SECONDS * 1_000_000)
TEN_SECONDS = round(10 / SAMPLE_SECONDS)
AHEAD = 1_700_000_000_000_000


def find(*speeds: float) -> tuple[Finding | None, float]:
    """The first fault, and after how many seconds, of a take with these speeds, sample after sample."""
    watchdog = Watchdog(Sample(0, AHEAD, 0))
    encoded = 0
    for number, speed in enumerate(speeds, start=1):
        encoded += round(speed * SAMPLE_US)
        finding = watchdog.check(Sample(number * SAMPLE_US, AHEAD, encoded))
        if finding not in (None, Finding.FALTERING):
            return finding, number * SAMPLE_SECONDS
    return None, len(speeds) * SAMPLE_SECONDS


def test_take_that_keeps_up_should_have_no_fault() -> None:
    assert find(*repeat(1, 4000))[0] is None


def test_take_that_makes_no_progress_should_hang() -> None:
    assert find(*repeat(1, 8), *repeat(0, 20)) == (Finding.HANGING, (8 + HANGING_SAMPLES) * SAMPLE_SECONDS)


def test_take_should_falter_before_it_hangs() -> None:
    watchdog = Watchdog(Sample(0, AHEAD, 0))
    found = [watchdog.check(Sample(number * SAMPLE_US, AHEAD, 0)) for number in range(1, HANGING_SAMPLES + 1)]
    assert found == [None, *repeat(Finding.FALTERING, HANGING_SAMPLES - 2), Finding.HANGING]


def test_take_that_waits_for_a_processor_should_not_hang_until_it_has_waited_for_long() -> None:
    watchdog = Watchdog(Sample(0, AHEAD, 0))
    samples = (
        Sample(number * SAMPLE_US, AHEAD, 0, waits_for_processor=True)
        for number in range(1, SPINNING_SAMPLES + 1)
    )
    found = [watchdog.check(sample) for sample in samples]
    assert Finding.HANGING not in found[:-1]
    assert found[TEN_SECONDS] is Finding.TOO_SLOW
    assert found[-1] is Finding.HANGING


def test_process_should_wait_for_a_processor_unless_it_sleeps_or_is_stopped() -> None:
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as busy:
        try:
            assert any(waits_for_processor(busy.pid) for _ in range(100))
            busy.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, busy.pid, os.WSTOPPED)
            assert not waits_for_processor(busy.pid)
        finally:
            busy.kill()
    assert not waits_for_processor(busy.pid)


def test_moment_without_progress_should_be_no_fault() -> None:
    assert find(*chain.from_iterable(repeat([1.5, 1.5, 1.5, 0, 0, 1.5], 100)))[0] is None


@pytest.mark.parametrize("speed", [0.1, 0.5, 0.88])
def test_take_that_is_slow_should_be_found_after_ten_seconds(speed: float) -> None:
    finding, seconds = find(*repeat(1, 10 * TEN_SECONDS), *repeat(speed, 2 * TEN_SECONDS))
    assert finding is Finding.TOO_SLOW
    # The first of the five parts is slow before it is over.
    assert 108 <= seconds <= 110


def test_take_that_has_always_been_slow_should_be_found_after_ten_seconds() -> None:
    assert find(*repeat(0.8, 2 * TEN_SECONDS)) == (Finding.TOO_SLOW, 10)


@pytest.mark.parametrize("speed", [0.91, 1.0])
def test_take_that_is_fast_enough_should_have_no_fault(speed: float) -> None:
    assert find(*repeat(speed, 400))[0] is None


def test_slowness_that_passes_should_be_no_fault() -> None:
    assert find(*chain.from_iterable(repeat([*repeat(0.6, 28), *repeat(1.8, 14)], 20)))[0] is None


def test_whether_a_take_is_slow_should_be_known_after_ten_seconds_and_may_change() -> None:
    watchdog = Watchdog(Sample(0, AHEAD, 0))
    known = []
    encoded = 0
    for number, speed in enumerate([*repeat(0.5, 2 * TEN_SECONDS), *repeat(1, TEN_SECONDS)], start=1):
        encoded += round(speed * SAMPLE_US)
        watchdog.check(Sample(number * SAMPLE_US, AHEAD, encoded))
        known.append(watchdog.is_slow)
    assert known[: TEN_SECONDS - 1] == [*repeat(None, TEN_SECONDS - 1)]
    assert known[TEN_SECONDS - 1 : 2 * TEN_SECONDS] == [*repeat(True, TEN_SECONDS + 1)]
    assert known[-1] is False


def test_one_stall_should_not_count_as_slowness() -> None:
    for begin in range(40, 80):
        assert find(*repeat(1, begin), *repeat(0.01, 8), *repeat(1, 80))[0] is None


def test_machine_that_stood_still_should_be_no_fault() -> None:
    watchdog = Watchdog(Sample(0, AHEAD, 0))
    encoded = 0
    now = 0
    for number in range(1, 400):
        encoded += SAMPLE_US
        # Each ten seconds it stands still for three, and what it missed is lost.
        now += SAMPLE_US + (3_000_000 if number % 40 == 0 else 0)
        assert watchdog.check(Sample(now, AHEAD, encoded)) is None


@pytest.mark.parametrize("by", [-3_600_000_000, -JUMP_US - 1, JUMP_US + 1, 3_600_000_000])
def test_clock_that_is_set_should_be_found_at_once(by: int) -> None:
    watchdog = Watchdog(Sample(0, AHEAD, 0))
    assert watchdog.check(Sample(SAMPLE_US, AHEAD, SAMPLE_US)) is None
    assert watchdog.check(Sample(2 * SAMPLE_US, AHEAD + by, 2 * SAMPLE_US)) is Finding.CLOCK_JUMPED


def test_clock_that_is_slewed_should_be_no_fault() -> None:
    watchdog = Watchdog(Sample(0, AHEAD, 0))
    for number in range(1, 40_000):
        assert watchdog.check(Sample(number * SAMPLE_US, AHEAD + number * 125, number * SAMPLE_US)) is None


def test_speed_should_be_that_of_the_last_ten_seconds() -> None:
    watchdog = Watchdog(Sample(0, AHEAD, 0))
    assert watchdog.speed == 0
    for number in range(1, 200):
        watchdog.check(Sample(number * SAMPLE_US, AHEAD, max(0, number - 100) * SAMPLE_US // 2))
    assert watchdog.speed == pytest.approx(0.5)
