import io
import json
import logging
import signal
from pathlib import Path

import pytest
from PIL import Image

from recording_farm.browser_bot.page.page_log import PageLog
from recording_farm.farm.evidence.dead_recorder import (
    describe_exit,
    describe_lost_node,
    keep_last_frame,
    mark_reported,
    pop_reported,
    save_crash_report,
)
from recording_farm.farm.telemetry.recording_log import logging_to
from testkit.encoder.takes import make_take

PAGE_LINES = ["page log: 'seen'", "page could not load 'https://meet.test/?t=…': net::ERR"]


@pytest.fixture
def evidence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    caplog.set_level(logging.INFO)
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    with logging_to(evidence):
        logging.getLogger("recording_farm.farm.jobs.record").warning("take 0 has begun at phase 17000 µs")
        page_log = PageLog(())
        for line in PAGE_LINES:
            page_log.write(line)
    return evidence


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "take-000.log").write_text("frame=90\n")
    return spool


def test_killed_recorder_should_leave_what_it_had_written(
    tmp_path: Path, evidence: Path, spool: Path
) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "xorg.out").write_text("X.Org X Server\n")
    place = save_crash_report(evidence, spool, describe_exit(int(signal.SIGKILL)), stage)
    assert place == evidence / "fault-001"
    fault = json.loads((place / "fault.json").read_text())
    assert (fault["kind"], fault["signal"]) == ("RecorderKilled", "SIGKILL")
    assert fault["message"] == "the recorder was killed by SIGKILL"
    assert fault["time"]
    said = (place / "page.log").read_text().splitlines()
    assert [line.partition(": ")[2] for line in said] == PAGE_LINES
    assert (place / "ffmpeg.log").read_text() == "take-000.log:\nframe=90\n"
    assert (place / "display.log").read_text() == "X.Org X Server\n"
    assert json.loads((place / "resources.json").read_text())["memory"]["total"] > 0
    assert not (place / "sound.log").exists()


def test_page_lines_of_a_recorder_of_the_last_version_should_be_kept(evidence: Path, spool: Path) -> None:
    (evidence / "recorder.log").write_text("2026-11-28 03:00 INFO    browser_bot.diary: page log: 'seen'\n")
    place = save_crash_report(evidence, spool, describe_exit(None))
    assert place is not None
    assert "page log: 'seen'" in (place / "page.log").read_text()


def test_end_of_a_recorder_should_be_reported_as_far_as_it_is_known() -> None:
    assert describe_exit(3 << 8)["exit_code"] == 3
    assert describe_exit(None) == {
        "kind": "RecorderDied",
        "message": "the recorder died together with its worker, so the signal is unknown",
    }
    assert "node-2" in str(describe_lost_node("node-2")["message"])


def test_node_that_has_nothing_of_it_should_keep_what_it_can(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    place = save_crash_report(evidence, tmp_path / "no-spool", describe_lost_node("node-2"))
    assert place is not None
    assert {file.name for file in place.iterdir()} == {"fault.json", "resources.json"}


def test_death_that_was_seen_should_be_taken_once(evidence: Path, spool: Path) -> None:
    assert pop_reported(evidence) is None
    place = save_crash_report(evidence, spool, describe_exit(None))
    assert place is not None
    mark_reported(evidence, place)
    assert pop_reported(evidence) == place
    assert pop_reported(evidence) is None


def test_disk_that_takes_nothing_should_be_no_fault_of_its_own(
    tmp_path: Path, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in its way")
    assert save_crash_report(tmp_path / "file", spool, describe_exit(None)) is None
    assert "cannot save the crash report" in caplog.text
    keep_last_frame(None, spool)


def test_last_frame_should_be_that_of_the_last_take(evidence: Path, spool: Path) -> None:
    place = save_crash_report(evidence, spool, describe_exit(None))
    assert place is not None
    keep_last_frame(place, spool)
    assert not (place / "page.png").exists()
    take = make_take(spool, seconds=4)
    with take.open("r+b") as file:  # it breaks off in the middle of a fragment
        file.truncate(take.stat().st_size - 100)
    (spool / "take-001.mp4").touch()
    keep_last_frame(place, spool)
    with Image.open(io.BytesIO((place / "page.png").read_bytes())) as picture:
        assert (picture.format, picture.size) == ("PNG", (320, 180))
        # It flashes in the first tenth of each second only.
        assert picture.convert("L").getextrema() == (0, 0)
