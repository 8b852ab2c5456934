import json
import logging
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from recording_farm.farm.telemetry.logs import about, formatter
from recording_farm.farm.telemetry.recording_log import logging_to


def line_of(record: logging.LogRecord, *, as_text: bool) -> str:
    return formatter(as_text=as_text).format(record)


def record_of(message: str, *values: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("farm.test", level, __file__, 1, message, values, None)


def failing(secret: str) -> logging.LogRecord:
    try:
        hidden = secret * 2
        raise ValueError(f"of {len(hidden)} characters")
    except ValueError:
        return logging.LogRecord("farm.test", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())


def test_line_should_be_one_json_object_with_what_it_is_about() -> None:
    recording_id = uuid4()
    with about(recording_id, webhook="w"):
        line = json.loads(line_of(record_of("take %d has begun", 1), as_text=False))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "take 1 has begun",
        "level": "info",
        "logger": "farm.test",
        "recording": str(recording_id),
        "webhook": "w",
    }
    assert "recording" not in json.loads(line_of(record_of("something else"), as_text=False))


def test_text_should_be_one_line_for_people() -> None:
    with about("abc"):
        line = line_of(record_of("take %d has begun", 1, level=logging.WARNING), as_text=True)
    assert "\n" not in line
    for part in ("warning", "take 1 has begun", "farm.test", "recording=abc"):
        assert part in line


def test_clients_text_should_not_forge_lines_nor_reach_the_terminal() -> None:
    hostile = 'room\n{"event": "forged"}\x1b[2J\r'
    assert len(line_of(record_of("%s", hostile), as_text=False).splitlines()) == 1
    text = line_of(record_of("%s", hostile), as_text=True)
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


@pytest.mark.parametrize("as_text", [False, True])
def test_traceback_should_show_no_variables(as_text: bool) -> None:
    line = line_of(failing("hunter2"), as_text=as_text)
    assert "ValueError" in line
    assert "of 14 characters" in line
    assert "hunter2hunter2" not in line
    if not as_text:
        assert len(line.splitlines()) == 1


SOURCE = """
import logging, sys
from pathlib import Path
from recording_farm.farm.telemetry.logs import set_up_logs_from_environment
from recording_farm.farm.telemetry.recording_log import logging_to

set_up_logs_from_environment()
with logging_to(Path(sys.argv[1])):
    logging.getLogger("recording_farm.farm.recorder.recorder").info("ours")
    logging.getLogger("recording_farm.farm.recorder.recorder").log(25, "a notice")
    logging.getLogger("some.library").info("a library's")
    logging.getLogger("some.library").warning("a library's warning")
"""


def said(directory: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SOURCE, str(directory)],
        env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stderr


@pytest.mark.parametrize("environment", [{}, {"FARM_LOG_LEVEL": "info"}, {"FARM_SLOTS": "none"}])
def test_recordings_own_log_should_have_our_info_in_any_case(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    recording_id = str(uuid4())
    lines = [json.loads(line) for line in said(tmp_path / recording_id, **environment).splitlines()]
    events = (["ours"] if "FARM_LOG_LEVEL" in environment else []) + ["a notice", "a library's warning"]
    assert [line["event"] for line in lines] == events
    assert lines[-2]["level"] == "notice"
    assert {line["recording"] for line in lines} == {recording_id}
    kept = (tmp_path / recording_id / "recorder.log").read_text()
    assert "INFO    recording_farm.farm.recorder.recorder: ours" in kept
    assert "a library's warning" in kept
    assert "a library's\n" not in kept


def test_format_should_be_chosen(tmp_path: Path) -> None:
    assert said(tmp_path, FARM_LOG_FORMAT="json").startswith("{")
    text = said(tmp_path, FARM_LOG_FORMAT="text")
    assert "a library's warning" in text
    assert not text.startswith("{")


def test_failed_job_should_be_reported_with_its_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="broken"), logging_to(tmp_path / "id"):
        raise ValueError("broken")
    assert "the job failed" in caplog.text
    assert "ValueError (" in (tmp_path / "id" / "recorder.log").read_text()


def test_log_for_clients_should_have_no_paths_and_no_control_characters(tmp_path: Path) -> None:
    def fail() -> None:
        logging.getLogger("recording_farm.farm.jobs").warning("the page printed \x1b[31m\nforged\u202e")
        (tmp_path / "secret").read_bytes()

    with pytest.raises(OSError, match="No such file"), logging_to(tmp_path / "id"):
        fail()
    kept = (tmp_path / "id" / "recorder.log").read_text()
    assert str(tmp_path) not in kept
    assert __file__ not in kept
    assert f"FileNotFoundError ({__name__}:" not in kept.splitlines()[0]
    assert "FileNotFoundError (" in kept
    assert r"printed \x1b[31m\nforged\u202e" in kept


def test_traceback_should_not_reach_the_terminal_raw() -> None:
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        record = logging.LogRecord("farm.test", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    assert "\x1b" not in line_of(record, as_text=True)
