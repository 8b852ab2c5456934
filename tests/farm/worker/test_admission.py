"""When a node accepts another recording, and what its log says about it."""

import logging
import tempfile
from pathlib import Path

import pytest

from recording_farm.browser_bot.stage import box
from recording_farm.browser_bot.stage.box import StageLimits
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.host.resources import Free, Processors
from recording_farm.farm.nodes.registry import NoRoom, Shortage
from recording_farm.farm.worker.admission import Admission, AdmissionLog, no_room
from testkit.settings import settings_with

MIB = 1 << 20
GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "records_already", "reason", "message"),
    [
        (
            Free(299 * MIB, 2 * GIB, 0.5),
            False,
            "disk",
            "299 MiB of disk free, 2048 MiB required (FARM_DISK_RESERVE)",
        ),
        (
            Free(3 * GIB, GIB - 1, 0.5),
            False,
            "memory",
            "1023 MiB of memory free, 1024 MiB required for a recording",
        ),
        (
            Free(3 * GIB, 2 * GIB, 0.05),
            True,
            "load",
            "processors 95% busy, the limit is 90% (FARM_MAX_LOAD)",
        ),
    ],
)
def test_node_that_lacks_something_should_say_what_and_how_much(
    free: Free, records_already: bool, reason: str, message: str
) -> None:
    assert no_room(free, Settings(), records_already=records_already) == NoRoom(
        reason=reason, message=message
    )


def test_busy_node_without_a_recording_of_its_own_should_accept_one() -> None:
    free = Free(3 * GIB, 2 * GIB, 0.0)
    assert no_room(free, Settings(), records_already=False) is None
    assert no_room(Free(3 * GIB, 2 * GIB, 0.5), Settings(), records_already=True) is None


def test_recording_should_wait_while_the_disk_is_needed_to_cut_others() -> None:
    free = Free(3 * GIB, 2 * GIB, 0.5)
    assert no_room(free, Settings(), records_already=True, space_for_cuts=GIB) is None
    found = no_room(free, Settings(), records_already=True, space_for_cuts=GIB + MIB)
    assert found is not None
    assert found.message == (
        "3072 MiB of disk free, 3073 MiB required: 2048 MiB (FARM_DISK_RESERVE) and 1025 MiB for pending cuts"
    )


def test_room_for_what_pages_store_should_be_free_beside_the_reserve() -> None:
    free = Free(3 * GIB, 2 * GIB, 0.5)
    assert no_room(free, Settings(), records_already=True, space_for_stages=GIB) is None
    found = no_room(free, Settings(), records_already=True, space_for_cuts=MIB, space_for_stages=GIB)
    assert found is not None
    assert found.message == (
        "3072 MiB of disk free, 3073 MiB required: 2048 MiB (FARM_DISK_RESERVE), 1 MiB for pending cuts and "
        "1024 MiB for what pages store (FARM_STAGE_DISK for each slot)"
    )


def test_pages_should_need_room_only_on_a_disk_that_they_can_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = StageLimits(disk=GIB)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(box, "why_not_mountable", lambda: "not allowed")
    assert box.space_on_disk(limits, 3, tmp_path) == 3 * GIB
    assert box.space_on_disk(limits, 3, Path("/proc")) == 0
    monkeypatch.setattr(box, "why_not_mountable", lambda: "")
    assert box.space_on_disk(limits, 3, tmp_path) == 0


@pytest.mark.parametrize(
    ("lacked", "still_short", "enough"),
    [
        (Shortage.DISK, Free(2100 * MIB, 2 * GIB, 0.5), Free(2200 * MIB, 2 * GIB, 0.5)),
        (Shortage.MEMORY, Free(3 * GIB, 1050 * MIB, 0.5), Free(3 * GIB, 1100 * MIB, 0.5)),
        (Shortage.LOAD, Free(3 * GIB, 2 * GIB, 0.13), Free(3 * GIB, 2 * GIB, 0.16)),
    ],
)
def test_node_should_need_a_margin_to_accept_recordings_again(
    lacked: Shortage, still_short: Free, enough: Free
) -> None:
    before = NoRoom(reason=lacked, message="")
    assert no_room(still_short, Settings(), records_already=True) is None
    found = no_room(still_short, Settings(), records_already=True, before=before)
    assert found is not None
    assert found.reason == lacked
    assert no_room(enough, Settings(), records_already=True, before=before) is None


def test_node_whose_data_directory_is_broken_should_have_no_room(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    found = Admission(settings_with(tmp_path / "data", None), Processors()).look()
    assert found is not None
    assert found.reason == "disk"
    assert "FARM_DATA_DIR) cannot be used" in found.message


def test_load_that_swings_should_be_logged_once_it_stays(caplog: pytest.LogCaptureFixture) -> None:
    log = AdmissionLog()
    for second in range(0, 60, 2):  # for three beats too busy, for two not
        is_busy = second % 10 < 6
        log.note("load" if is_busy else None, "processors 95% busy" if is_busy else "", second)
    assert caplog.messages == []
    for second in range(60, 90, 2):
        log.note("load", "processors 95% busy", second)
    assert caplog.messages == ["not accepting recordings: processors 95% busy"]
    with caplog.at_level(logging.WARNING):
        for second in range(90, 120, 2):
            log.note(None, "", second)
    assert caplog.messages[1:] == ["accepting recordings again"]
