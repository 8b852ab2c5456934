"""Collects the evidence of a failure: the state of a recording when it failed, in a directory of its own.

The recording's log is beside it. All file names are fixed here, because the API publishes them.
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
"""The files that a failure may have."""

_MAX_FAULTS: Final = 20
_MAX_SECONDS: Final = 4.8
_MAX_BYTES: Final = 1 << 20
_LOG_BYTES: Final = 1 << 16
_FFMPEG_LINES: Final = 200

_FAULT: Final = re.compile(r"fault-[0-9]{3,9}")


def fault_directories(directory: Path) -> list[Path]:
    """The directories of a recording's failures, the oldest first."""
    found = [path for path in directory.glob("fault-*") if _FAULT.fullmatch(path.name)]
    return sorted(found, key=_fault_number)


def evidence_files(directory: Path) -> dict[str, Path]:
    """The files of a recording's evidence, by names that only the farm chooses."""
    named = {RECORDER_LOG: directory / RECORDER_LOG} | {
        f"{fault_dir.name}/{name}": fault_dir / name
        for fault_dir in fault_directories(directory)
        for name in FILES
    }
    return {name: file for name, file in named.items() if file.is_file()}


def is_evidence(name: str) -> bool:
    """Whether a file of evidence can have this name."""
    fault, _, file = name.rpartition("/")
    return name == RECORDER_LOG or (file in FILES and _FAULT.fullmatch(fault) is not None)


def _fault_number(fault_dir: Path) -> int:
    return int(fault_dir.name.removeprefix("fault-"))


async def collect(
    directory: Path,
    stage: "Stage | None",
    bot: "Bot | None",
    spool: Path,
    fault: Exception,
    *,
    screenshot: bool = True,
) -> None:
    """Save the evidence of `fault` in the next `fault-…` of `directory`, from all parts that still answer.

    A screenshot stalls the browser, so there is none while a take runs on the stage. Never raises, and takes
    5 s at most, also when the stage or the disk hangs. The twenty latest failures are kept.
    """
    collecting = asyncio.ensure_future(_collect(directory, stage, bot, spool, fault, screenshot=screenshot))
    try:
        await asyncio.wait((collecting,), timeout=_MAX_SECONDS)
    finally:
        in_time = collecting.done()
        collecting.cancel()
        (problem,) = await asyncio.gather(collecting, return_exceptions=True)
    if not in_time:
        logger.warning("could not collect all evidence within %.0f s", _MAX_SECONDS)
    elif problem is not None:
        logger.warning("cannot save evidence: %s", problem)


async def _collect(
    directory: Path,
    stage: "Stage | None",
    bot: "Bot | None",
    spool: Path,
    fault: Exception,
    *,
    screenshot: bool,
) -> None:
    fault_dir = await asyncio.to_thread(next_fault_dir, directory)
    parts: list[Awaitable[object]] = [
        asyncio.to_thread(write_json, fault_dir / "fault.json", _described(fault)),
        asyncio.to_thread(lambda: (fault_dir / "ffmpeg.log").write_bytes(last_of_takes(spool))),
        asyncio.to_thread(write_resources, fault_dir / "resources.json", spool, stage),
    ]
    if stage is not None:
        logs = {"display.log": stage.display.server.log, "sound.log": stage.audio.daemon.log}
        parts += [asyncio.to_thread(copy_end, log, fault_dir / name) for name, log in logs.items()]
    if bot is not None:
        page_log = "".join(f"{line}\n" for line in bot.page_log).encode(errors="replace")
        parts.append(asyncio.to_thread((fault_dir / "page.log").write_bytes, page_log[-_MAX_BYTES:]))
        if screenshot:
            parts.append(bot.screenshot(fault_dir / SCREENSHOT))
    for problem in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(problem, BaseException):
            logger.warning("cannot save a part of the evidence: %r", problem)


def next_fault_dir(directory: Path) -> Path:
    """Make the directory of the next failure and delete the oldest beyond the limit. Raises OSError."""
    faults = fault_directories(directory)
    number = _fault_number(faults[-1]) + 1 if faults else 1
    for old in faults[: max(len(faults) - _MAX_FAULTS + 1, 0)]:
        shutil.rmtree(old, ignore_errors=True)
    fault_dir = directory / f"fault-{number:03}"
    fault_dir.mkdir(parents=True, mode=0o700)
    return fault_dir


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
"""Classes that clients know by a name without the suffix, as version 0.1 wrote it."""


def kind_of(fault: Exception) -> str:
    """The `kind` of a failure in `fault.json`, for programs: the name of its class, which is stable."""
    name = type(fault).__name__
    return _KINDS.get(name, name)


def _described(fault: Exception) -> dict[str, str]:
    return {"time": datetime.now(UTC).isoformat(), "kind": kind_of(fault), "message": str(fault)}


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file of evidence. Raises OSError."""
    file.write_text(json.dumps(content, indent=2) + "\n")


def write_resources(file: Path, spool: Path, stage: "Stage | None" = None) -> None:
    """Write the resources that this machine and the programs of a stage use now. Raises OSError."""
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
    """The last lines of ffmpeg's output in the latest takes."""
    lines: list[bytes] = []
    for log in sorted(spool.glob("take-[0-9]*.log"), key=acquire_slot_number, reverse=True):
        lines = [f"{log.name}:\n".encode(), *end_of(log).splitlines(keepends=True), *lines]
        if len(lines) >= _FFMPEG_LINES:
            break
    return b"".join(lines[-_FFMPEG_LINES:])


def acquire_slot_number(file: Path) -> int:
    """The number of the take that a file belongs to."""
    return int(file.stem.removeprefix("take-"))


def copy_end(log: Path, file: Path) -> None:
    """Copy the end of a log. Raises OSError."""
    file.write_bytes(end_of(log))


def end_of(log: Path, size: int = _LOG_BYTES) -> bytes:
    """The last `size` bytes of a log. Raises OSError."""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - size, 0))
        return file.read(size)
