from pathlib import Path

import pytest
from pydantic import ValidationError

from farm.webhooks.sender import retry_seconds
from testkit.settings import settings_with


@pytest.mark.parametrize(("tries", "seconds"), [(1, 5), (2, 15), (3, None), (4, None)])
def test_interval_should_be_that_of_the_try(tries: int, seconds: float | None) -> None:
    assert retry_seconds(tries, (5, 15)) == seconds


def test_tries_should_grow_apart_and_go_on_for_a_day(tmp_path: Path) -> None:
    intervals = settings_with(tmp_path, None).webhook_intervals
    assert list(intervals) == sorted(intervals)
    assert intervals[0] == 5
    assert 22 * 3600 < sum(intervals) <= 24 * 3600


def test_intervals_should_be_read_from_text(tmp_path: Path) -> None:
    assert settings_with(tmp_path, None, webhook_intervals="0.5, 2,30").webhook_intervals == (0.5, 2, 30)


@pytest.mark.parametrize("intervals", ["x", "0", "-1", "1,90000", "nan"])
def test_intervals_that_are_none_should_be_refused(tmp_path: Path, intervals: str) -> None:
    with pytest.raises(ValidationError, match="webhook_intervals"):
        settings_with(tmp_path, None, webhook_intervals=intervals)
