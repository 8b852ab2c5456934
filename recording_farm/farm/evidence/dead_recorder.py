"""The crash report of a recorder that was killed, saved by its slot or by the recorder that resumes.

Its memory is lost; its files remain: its log with what the page printed and failed to load, its takes with
ffmpeg's output, and the logs of its stage until that is removed.
"""

import json
import logging
import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

from recording_farm.browser_bot.page import page_log
from recording_farm.encoder.media.last_frame import last_frame
from recording_farm.farm.clock import now
from recording_farm.farm.evidence.collect import (
    RECORDER_LOG,
    SCREENSHOT,
    acquire_slot_number,
    copy_end,
    end_of,
    kind_of,
    last_of_takes,
    next_fault_dir,
    write_json,
    write_resources,
)

logger = logging.getLogger(__name__)

_REPORTED: Final = "death"
"""A file with the name of the report of a crash, until the recording is resumed."""

_PAGE_LOGGERS: Final = "|".join(map(re.escape, (page_log.logger.name, "browser_bot.diary")))
"""Names of the logger of page lines; the second one is version 0.1's, whose recorder may have died."""

_PAGE_LINE: Final = re.compile(rf"^.* (?:{_PAGE_LOGGERS}): page .*$".encode(), re.MULTILINE)
_LOG_BYTES: Final = 1 << 20
_STAGE_LOGS: Final = {"display.log": "xorg.out", "sound.log": "pulseaudio.log"}


def describe_exit(status: int | None) -> dict[str, str | int]:
    """How a process ended, from its status of waitpid(2); None if nobody waited for it."""
    if status is None:
        message = "the recorder died together with its worker, so the signal is unknown"
        return {"kind": "RecorderDied", "message": message}
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:  # a real-time signal
            name = f"signal {number}"
        return {"kind": "RecorderKilled", "message": f"the recorder was killed by {name}", "signal": name}
    code = os.waitstatus_to_exitcode(status)
    message = f"the recorder ended by itself with exit code {code}"
    return {"kind": "RecorderDied", "message": message, "exit_code": code}


def describe_lost_node(node: str) -> dict[str, str | int]:
    """The crash of a recorder with its node."""
    message = f"the node {node} is lost; it uploads its evidence of this recording when it is back"
    return {"kind": "NodeGone", "message": message}


def describe_defect(error: Exception) -> dict[str, str | int]:
    """The crash of a recorder by an unexpected error."""
    return {"kind": kind_of(error), "message": "the recorder failed; its log says more"}


def save_crash_report(
    directory: Path, spool: Path, crash: dict[str, str | int], stage: Path | None = None
) -> Path | None:
    """Save a crash as the next fault of the evidence in `directory`; returns the report's directory.

    `stage` is the dead recorder's, if it still exists. Never raises; None if the disk rejects it.
    """
    try:
        report_dir = next_fault_dir(directory)
        write_json(report_dir / "fault.json", {"time": now().isoformat(), **crash})
        _write_unless_empty(report_dir / "page.log", _page_lines(directory / RECORDER_LOG))
        _write_unless_empty(report_dir / "ffmpeg.log", last_of_takes(spool))
        if stage is not None:
            _keep_stage_logs(stage, report_dir)
        write_resources(report_dir / "resources.json", spool if spool.exists() else directory)
    except OSError as error:
        logger.warning("cannot save the crash report of the dead recorder: %s", error)
        return None
    return report_dir


def _keep_stage_logs(stage: Path, report_dir: Path) -> None:
    for name, log in _STAGE_LOGS.items():
        with suppress(FileNotFoundError):  # it was being opened, or is being removed
            copy_end(stage / log, report_dir / name)


def _page_lines(log: Path) -> bytes:
    with suppress(FileNotFoundError):
        return b"".join(b"%s\n" % line for line in _PAGE_LINE.findall(end_of(log, _LOG_BYTES)))
    return b""


def _write_unless_empty(file: Path, content: bytes) -> None:
    if content:
        file.write_bytes(content)


def mark_reported(directory: Path, report_dir: Path) -> None:
    """Note that a crash is reported in `report_dir`, for the recorder that resumes. Ignores a full disk."""
    with suppress(OSError):
        (directory / _REPORTED).write_text(json.dumps(report_dir.name))


def pop_reported(directory: Path) -> Path | None:
    """The report of a crash after which the recording was not resumed yet, if any; removes the note."""
    note = directory / _REPORTED
    try:
        report_dir = directory / Path(str(json.loads(note.read_text()))).name
    except (OSError, ValueError):
        return None
    note.unlink(missing_ok=True)
    return report_dir if report_dir.is_dir() else None


def keep_last_frame(report_dir: Path | None, spool: Path) -> None:
    """Add the last recorded frame to a crash report, because a dead browser gives no screenshot.

    Takes half a second and never raises. Not for WebM, where the whole take would have to be read.
    """
    if report_dir is None:  # the disk rejected the rest too
        return
    try:
        takes = [take for take in spool.glob("take-[0-9]*.mp4") if take.stat().st_size]
        picture = last_frame(max(takes, key=acquire_slot_number)) if takes else None
        if picture is not None:
            (report_dir / SCREENSHOT).write_bytes(picture)
    except OSError as error:
        logger.warning("cannot save the last frame: %s", error)
