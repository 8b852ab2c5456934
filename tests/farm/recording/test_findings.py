from pathlib import Path

import pytest

from recording_farm.farm.recording.findings import Count, Finding, Tally, keep_tally, read_tally, total_tally

TALLY = Tally({Finding.PAGE_OFFLINE: Count(2, 9.5), Finding.NO_SOUND: Count(1, 5)}, 1 << 30, had_company=True)


def test_tally_should_be_read_as_it_was_kept(tmp_path: Path) -> None:
    assert read_tally(tmp_path) == Tally()
    keep_tally(tmp_path, TALLY)
    assert read_tally(tmp_path) == TALLY
    assert TALLY.as_json() == {
        "findings": {
            "page_offline": {"times": 2, "seconds": 9.5},
            "no_sound": {"times": 1, "seconds": 5},
        },
        "peak_memory": 1 << 30,
    }


def test_company_that_another_node_has_seen_should_count(tmp_path: Path) -> None:
    assert read_tally(tmp_path, had_company=True) == Tally(had_company=True)
    keep_tally(tmp_path, Tally(peak_memory=5))
    assert read_tally(tmp_path, had_company=True) == Tally(peak_memory=5, had_company=True)
    assert read_tally(tmp_path) == Tally(peak_memory=5)


def test_total_should_be_the_sum_of_what_each_node_has_found(tmp_path: Path) -> None:
    assert total_tally(tmp_path) == Tally()
    keep_tally(tmp_path, TALLY)
    keep_tally(tmp_path, Tally({Finding.NO_SOUND: Count(1, 2.5)}, 5), take_overs=2)
    findings = {Finding.PAGE_OFFLINE: Count(2, 9.5), Finding.NO_SOUND: Count(2, 7.5)}
    assert total_tally(tmp_path) == Tally(findings, 1 << 30, had_company=True)
    assert read_tally(tmp_path, 2) == Tally({Finding.NO_SOUND: Count(1, 2.5)}, 5)
    assert read_tally(tmp_path, 1) == Tally()


def test_memory_that_nobody_looked_at_should_not_be_0(tmp_path: Path) -> None:
    tally = Tally({Finding.DISK_FULL: Count(1, 1)})
    assert tally.as_json()["peak_memory"] is None
    keep_tally(tmp_path, tally)
    assert read_tally(tmp_path) == tally


@pytest.mark.parametrize(
    "kept", ["", "{}", "[]", '{"findings": [], "peak_memory": 1}', '{"findings": {"x": 1}}']
)
def test_tally_that_cannot_be_read_should_be_empty(tmp_path: Path, kept: str) -> None:
    (tmp_path / "findings.json").write_text(kept)
    assert read_tally(tmp_path) == Tally()


def test_disk_that_is_gone_should_be_no_fault(tmp_path: Path) -> None:
    keep_tally(tmp_path / "gone", TALLY)
