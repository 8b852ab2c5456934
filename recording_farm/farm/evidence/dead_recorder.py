"""The evidence of a recorder that was killed, kept by whoever sees it or goes on with its recording.

What it knew has died with it; what it had written is there: its log, which has what the page printed and
could not load, its takes with what ffmpeg said, and the logs of its stage until that is swept.
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
    copy_end,
    end_of,
    kind_of,
    last_of_takes,
    next_place,
    take_number,
    write_json,
    write_resources,
)

logger = logging.getLogger(__name__)

_SEEN: Final = "death"
"""The file that names the fault which is kept of a death already, until somebody goes on."""

_PAGE_LOGGERS: Final = "|".join(map(re.escape, (page_log.logger.name, "browser_bot.diary")))
"""By the name of the logger; the second one is that of the version before 0.2, whose recorder may have
died."""

_PAGE_LINE: Final = re.compile(rf"^.* (?:{_PAGE_LOGGERS}): page .*$".encode(), re.MULTILINE)
_LOG_BYTES: Final = 1 << 20
_STAGE_LOGS: Final = {"display.log": "xorg.out", "sound.log": "pulseaudio.log"}


def describe_exit(status: int | None) -> dict[str, str | int]:
    """How a process ended, from what waitpid(2) says; None is one that nobody waited for."""
    if status is None:
        message = "the recorder died, and whoever would know how died with it"
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
    """The death of a recorder with its node."""
    message = f"the node {node} is gone; what it has of this recording's evidence comes when it is back"
    return {"kind": "NodeGone", "message": message}


def describe_defect(error: Exception) -> dict[str, str | int]:
    """The death of a recorder by an error that nobody had thought of."""
    return {"kind": kind_of(error), "message": "the recorder failed; its log says more"}


def keep_death(
    directory: Path, spool: Path, death: dict[str, str | int], stage: Path | None = None
) -> Path | None:
    """Keep what there is to see of a death in the next fault of the evidence in `directory`; returns where.

    `stage` is the dead recorder's, if it was not swept yet. Never raises; None if the disk does not take it.
    """
    try:
        place = next_place(directory)
        write_json(place / "fault.json", {"time": now().isoformat(), **death})
        _write_unless_empty(place / "page.log", _said_by_page(directory / RECORDER_LOG))
        _write_unless_empty(place / "ffmpeg.log", last_of_takes(spool))
        if stage is not None:
            _keep_stage_logs(stage, place)
        write_resources(place / "resources.json", spool if spool.exists() else directory)
    except OSError as error:
        logger.warning("no evidence of the dead recorder could be kept: %s", error)
        return None
    return place


def _keep_stage_logs(stage: Path, place: Path) -> None:
    for name, log in _STAGE_LOGS.items():
        with suppress(FileNotFoundError):  # it was just being opened, or is being swept
            copy_end(stage / log, place / name)


def _said_by_page(log: Path) -> bytes:
    with suppress(FileNotFoundError):
        return b"".join(b"%s\n" % line for line in _PAGE_LINE.findall(end_of(log, _LOG_BYTES)))
    return b""


def _write_unless_empty(file: Path, content: bytes) -> None:
    if content:
        file.write_bytes(content)


def note_seen(directory: Path, place: Path) -> None:
    """Note that a death is kept in `place`, for whoever goes on. A full disk is no error here."""
    with suppress(OSError):
        (directory / _SEEN).write_text(json.dumps(place.name))


def take_seen(directory: Path) -> Path | None:
    """Where a death is kept of which nobody has gone on yet; None if nobody has seen one. Forgets it."""
    note = directory / _SEEN
    try:
        place = directory / Path(str(json.loads(note.read_text()))).name
    except (OSError, ValueError):
        return None
    note.unlink(missing_ok=True)
    return place if place.is_dir() else None


def keep_last_frame(place: Path | None, spool: Path) -> None:
    """Add to a death the last frame that was recorded, since a dead browser shows nothing any more.

    Takes half a second, and never raises. There is none of takes in WebM: all of them would have to be read.
    """
    if place is None:  # the disk did not take the rest either
        return
    try:
        takes = [take for take in spool.glob("take-[0-9]*.mp4") if take.stat().st_size]
        picture = last_frame(max(takes, key=take_number)) if takes else None
        if picture is not None:
            (place / SCREENSHOT).write_bytes(picture)
    except OSError as error:
        logger.warning("the last frame could not be kept: %s", error)
