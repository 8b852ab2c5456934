"""The evidence of a fault: what there was to see of a recording when something broke, in its own directory.

Beside them lies the recording's log. The names of all files are fixed here: the API gives them away.
"""

import asyncio
import json
import logging
import os
import re
import shutil
from collections.abc import Awaitable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

if TYPE_CHECKING:  # the API reads evidence, and need not load Playwright for that
    from recording_farm.browser_bot.page.bot import Bot
    from recording_farm.browser_bot.stage.stage import Stage

logger = logging.getLogger(__name__)

RECORDER_LOG: Final = "recorder.log"
SCREENSHOT: Final = "page.png"
FILES: Final = (
    "fault.json",
    SCREENSHOT,
    "page.log",
    "ffmpeg.log",
    "display.log",
    "sound.log",
    "resources.json",
)
"""What there may be of each fault."""

_MAX_FAULTS: Final = 20
_MAX_SECONDS: Final = 4.8
_MAX_BYTES: Final = 1 << 20
_LOG_BYTES: Final = 1 << 16
_FFMPEG_LINES: Final = 200

_FAULT: Final = re.compile(r"fault-[0-9]{3,9}")


def fault_directories(directory: Path) -> list[Path]:
    """The faults of which a recording's evidence tells, the oldest first."""
    found = [path for path in directory.glob("fault-*") if _FAULT.fullmatch(path.name)]
    return sorted(found, key=_fault_number)


def evidence_files(directory: Path) -> dict[str, Path]:
    """The files there are of a recording's evidence, by names of which none comes from outside."""
    named = {RECORDER_LOG: directory / RECORDER_LOG} | {
        f"{place.name}/{name}": place / name for place in fault_directories(directory) for name in FILES
    }
    return {name: file for name, file in named.items() if file.is_file()}


def is_evidence(name: str) -> bool:
    """Whether a file of evidence can be called so."""
    fault, _, file = name.rpartition("/")
    return name == RECORDER_LOG or (file in FILES and _FAULT.fullmatch(fault) is not None)


def _fault_number(place: Path) -> int:
    return int(place.name.removeprefix("fault-"))


async def collect(
    directory: Path,
    stage: "Stage | None",
    bot: "Bot | None",
    spool: Path,
    fault: Exception,
    *,
    screenshot: bool = True,
) -> None:
    """Keep what there is to see of `fault` in the next `fault-…` of `directory`, whatever of it still works.

    A screenshot makes the browser stumble: there is none while a take runs on the stage. Never raises, and
    takes 5 s at most, also when stage or disk hang. Of the twenty latest faults it is kept.
    """
    collecting = asyncio.ensure_future(_collect(directory, stage, bot, spool, fault, screenshot=screenshot))
    try:
        await asyncio.wait((collecting,), timeout=_MAX_SECONDS)
    finally:
        in_time = collecting.done()
        collecting.cancel()
        (problem,) = await asyncio.gather(collecting, return_exceptions=True)
    if not in_time:
        logger.warning("not all evidence could be had in %.0f s", _MAX_SECONDS)
    elif problem is not None:
        logger.warning("no evidence could be kept: %s", problem)


async def _collect(
    directory: Path,
    stage: "Stage | None",
    bot: "Bot | None",
    spool: Path,
    fault: Exception,
    *,
    screenshot: bool,
) -> None:
    place = await asyncio.to_thread(next_place, directory)
    parts: list[Awaitable[object]] = [
        asyncio.to_thread(write_json, place / "fault.json", _described(fault)),
        asyncio.to_thread(lambda: (place / "ffmpeg.log").write_bytes(last_of_takes(spool))),
        asyncio.to_thread(write_resources, place / "resources.json", spool, stage),
    ]
    if stage is not None:
        logs = {"display.log": stage.display.server.log, "sound.log": stage.sound.daemon.log}
        parts += [asyncio.to_thread(copy_end, log, place / name) for name, log in logs.items()]
    if bot is not None:
        page_log = "".join(f"{line}\n" for line in bot.page_log).encode(errors="replace")
        parts.append(asyncio.to_thread((place / "page.log").write_bytes, page_log[-_MAX_BYTES:]))
        if screenshot:
            parts.append(bot.screenshot(place / SCREENSHOT))
    for problem in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(problem, BaseException):
            logger.warning("a part of the evidence could not be kept: %r", problem)


def next_place(directory: Path) -> Path:
    """Make the directory of the next fault, and delete those of too many. Raises OSError."""
    faults = fault_directories(directory)
    number = _fault_number(faults[-1]) + 1 if faults else 1
    for old in faults[: max(len(faults) - _MAX_FAULTS + 1, 0)]:
        shutil.rmtree(old, ignore_errors=True)
    place = directory / f"fault-{number:03}"
    place.mkdir(parents=True, mode=0o700)
    return place


_KINDS: Final = {
    f"{kind}Error": kind
    for kind in (
        "ClockJumped",
        "EncoderHung",
        "EncoderTooSlow",
        "NotFound",
        "NothingRecorded",
        "ProgramMissing",
        "RecordUnreadable",
        "RedisUnavailable",
        "TakenOver",
        "WrongState",
    )
}
"""The classes of faults that clients know by a name without the suffix, as version 0.1 wrote it."""


def kind_of(fault: Exception) -> str:
    """The `kind` of a fault in `fault.json`, for programs: the name of its class, which stays."""
    name = type(fault).__name__
    return _KINDS.get(name, name)


def _described(fault: Exception) -> dict[str, str]:
    return {"time": datetime.now(UTC).isoformat(), "kind": kind_of(fault), "message": str(fault)}


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a file of evidence for programs. Raises OSError."""
    file.write_text(json.dumps(content, indent=2) + "\n")


def write_resources(file: Path, spool: Path, stage: "Stage | None" = None) -> None:
    """Write what this machine and the programs of a stage use now. Raises OSError."""
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(spool)
    resources = {
        "time": datetime.now(UTC).isoformat(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "processor_seconds": psutil.cpu_times()._asdict(),
        "memory": {"total": memory.total, "available": memory.available},
        "disk": {"total": disk.total, "free": disk.free},
        "stage": [asdict(process) for process in stage.usage()] if stage is not None else [],
    }
    write_json(file, resources)


def last_of_takes(spool: Path) -> bytes:
    """The last lines that ffmpeg wrote in the latest takes."""
    lines: list[bytes] = []
    for log in sorted(spool.glob("take-[0-9]*.log"), key=take_number, reverse=True):
        lines = [f"{log.name}:\n".encode(), *end_of(log).splitlines(keepends=True), *lines]
        if len(lines) >= _FFMPEG_LINES:
            break
    return b"".join(lines[-_FFMPEG_LINES:])


def take_number(file: Path) -> int:
    """The number of the take that a file belongs to."""
    return int(file.stem.removeprefix("take-"))


def copy_end(log: Path, file: Path) -> None:
    """Keep the end of a log. Raises OSError."""
    file.write_bytes(end_of(log))


def end_of(log: Path, size: int = _LOG_BYTES) -> bytes:
    """The last `size` bytes of a log. Raises OSError."""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - size, 0))
        return file.read(size)
