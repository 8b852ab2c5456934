from pathlib import Path

import pytest

from recording_farm.encoder.journal import Journal, Lag, lag_at, read_journal, write_journal

JOURNAL = Journal(
    3, 1_000, 1_002_500_000, 77_000, 19_000, (Lag(0, 19_000), Lag(9_000_000, 52_333)), 12_000_000, 0.95, 2
)


def test_journal_should_be_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "take-003.json"
    write_journal(file, JOURNAL)
    assert read_journal(file) == JOURNAL
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"lags": [1]}', '{"lags": [], "other": 1}', "\0"])
def test_journal_that_a_crash_has_spoilt_should_be_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "take-003.json"
    file.write_text(text)
    assert read_journal(file) is None


def test_journal_that_was_never_written_should_be_none(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "take-003.json") is None


def test_monotonic_time_should_be_reported_in_the_takes_time() -> None:
    assert JOURNAL.time_of(77_000) == 2_500_000
    assert JOURNAL.time_of(78_500) == 2_501_500


@pytest.mark.parametrize(
    ("time", "lag"), [(-5, 19_000), (0, 19_000), (8_999_999, 19_000), (9_000_000, 52_333), (10**12, 52_333)]
)
def test_lag_should_be_that_of_its_time(time: int, lag: int) -> None:
    assert lag_at(JOURNAL.lags, time) == lag


def test_take_of_which_nothing_is_known_should_have_no_lag() -> None:
    assert lag_at((), 5) == 0
