import time

import pytest

from recording_farm.encoder.takes.clock import phase, safe_window, wait_us, wall_ahead_us


def test_window_should_be_the_measured_one_at_30_fps() -> None:
    window = safe_window(33_333)
    assert (window.first, window.last) == (7_999, 27_334)


@pytest.mark.parametrize("fps", [15, 24, 25, 30, 50, 60])
def test_window_should_lie_inside_every_period(fps: int) -> None:
    period = 1_000_000 // fps
    window = safe_window(period)
    assert 0 < window.first < window.aim < window.last < period
    assert window.aim in window
    assert 0 not in window
    assert period - 1 not in window


@pytest.mark.parametrize("now", [0, 1, 17_000, 33_332, 123_456_789_012])
def test_waiting_should_lead_to_the_aim(now: int) -> None:
    wait = wait_us(now, 1_000, 17_500, 33_333)
    assert 0 <= wait < 33_333
    assert phase(now + wait + 1_000, 33_333) == 17_500


def test_wall_clock_should_be_ahead_by_the_time_since_1970() -> None:
    assert wall_ahead_us() == pytest.approx((time.time() - time.monotonic()) * 1e6, abs=50_000)
    readings = [wall_ahead_us() for _ in range(1000)]
    assert max(readings) - min(readings) < 50_000
