import json
import time
from pathlib import Path

import pytest

from recording_farm.encoder.formats import Format
from recording_farm.farm.spool.breaks import breaks_too_often
from recording_farm.farm.spool.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, Format())


def broke(spool: Spool, *ago: float) -> None:
    """Note breaks of so many seconds ago."""
    moments = [time.time() - seconds for seconds in ago]
    (spool.directory / "breaks.json").write_text(json.dumps(moments))


def test_third_break_in_five_minutes_should_be_too_often(spool: Spool) -> None:
    assert [breaks_too_often(spool) for _ in range(3)] == [False, False, True]
    broke(spool, 400, 10)
    assert not breaks_too_often(spool)
    assert breaks_too_often(spool)


def test_breaks_before_the_clock_was_set_back_should_not_count(spool: Spool) -> None:
    broke(spool, -3600, -3590)
    assert [breaks_too_often(spool) for _ in range(3)] == [False, False, True]


def test_breaks_should_be_there_whole_at_any_moment(spool: Spool) -> None:
    broke(spool, 20, 10)
    breaks = spool.directory / "breaks.json"
    before = breaks.read_text()
    (spool.directory / "kept").hardlink_to(breaks)
    assert breaks_too_often(spool)
    # The file that a killed recorder leaves is the one before or the one after, and none half written.
    assert (spool.directory / "kept").read_text() == before
    assert len(json.loads(breaks.read_text())) == 3
