"""The findings of the monitor, and their tally.

The tally is kept in the spool while the recording lasts, because the recorder may die. At the end it becomes
a part of the recording's `quality`.

A recording that is taken over by another node gets a second tally there, in a file of its own: the first node
may get the recording back, with its tally, and with a copy of it in the replica. Nothing counts twice then.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from recording_farm.encoder.atomic_file import write_file

TALLY_PATTERN: Final = "findings*.json"
"""Pattern of the names of all tallies in a spool."""


class Finding(StrEnum):
    """What is the matter with what is recorded."""

    SOUND_ELSEWHERE = "sound_elsewhere"
    """The page plays to another sink than the one that is recorded."""
    NO_SOUND = "no_sound"
    """Participants speak, and the page plays nothing."""
    FROZEN_PICTURE = "frozen_picture"
    """The picture stands still, and the browser's compositor with it."""
    FROZEN_VIDEO = "frozen_video"
    """The picture stands still, and the page draws and has a video in sight that moves."""
    FOREIGN_WINDOW = "foreign_window"
    """A window besides the page's own was on the display, for however short a time."""
    COVERED_PICTURE = "covered_picture"
    """Such a window stays on the display."""
    BLACK_PICTURE = "black_picture"
    BLANK_PICTURE = "blank_picture"
    """Somebody was in the meeting, and the page shows nothing but one color, as one that failed does."""
    PAGE_OFFLINE = "page_offline"
    """The page says that it has no network."""
    PAGE_CUT_OFF = "page_cut_off"
    """Somebody was in the meeting, and none of the page's connections lives any more."""
    DISK_FULL = "disk_full"
    MEMORY = "memory"
    """The stage used more memory than it may."""
    STAGE_DISK = "stage_disk"
    """The page filled the stage's disk."""
    STAGE_TASKS = "stage_tasks"
    """The page started more processes and threads than a stage may have."""
    ENCODER_SLOW = "encoder_slow"
    """The encoder does not keep up."""
    MEETING_EMPTY = "meeting_empty"
    """Nobody sends anything any more to the page."""


@dataclass(frozen=True)
class Count:
    """How often something was found, and for how many seconds together."""

    times: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Tally:
    """What was found in a recording so far, and the most memory that a stage of it used, in bytes.

    `had_company`: whether somebody was in the meeting, at any time. Memory that nobody looked at is 0.
    """

    findings: Mapping[Finding, Count] = field(default_factory=dict)
    peak_memory: int = 0
    had_company: bool = False

    def as_json(self) -> dict[str, JsonValue]:
        """The same as it is told to clients."""
        return {
            "findings": {
                finding.value: {"times": count.times, "seconds": round(count.seconds, 1)}
                for finding, count in self.findings.items()
            },
            # What ends within seconds nobody has looked at.
            "peak_memory": self.peak_memory or None,
        }


def _sum_of(first: Tally, second: Tally) -> Tally:
    nothing = Count()
    counts = {
        finding: Count(
            first.findings.get(finding, nothing).times + second.findings.get(finding, nothing).times,
            first.findings.get(finding, nothing).seconds + second.findings.get(finding, nothing).seconds,
        )
        for finding in (*first.findings, *second.findings)
    }
    memory = max(first.peak_memory, second.peak_memory)
    return Tally(counts, memory, first.had_company or second.had_company)


def keep_tally(spool: Path, tally: Tally, take_overs: int = 0) -> None:
    """Write the tally of a node to the directory of a spool. A full disk is no error here.

    `take_overs` is how often the recording had been taken over when this node began. The file is written each
    second while something is found, in the event loop, which must not wait for the disk.
    """
    with suppress(OSError):
        content = json.dumps({**tally.as_json(), "had_company": tally.had_company})
        write_file(_file(spool, take_overs), content, durable=False)


def read_tally(spool: Path, take_overs: int = 0, *, had_company: bool = False) -> Tally:
    """The tally that a node has written with `keep_tally`; an empty one if there is none.

    `had_company` is what other nodes have seen, which counts as well.
    """
    return _read(_file(spool, take_overs), had_company=had_company)


def total_tally(spool: Path) -> Tally:
    """The sum of all tallies in the directory of a spool."""
    return reduce(_sum_of, map(_read, sorted(spool.glob(TALLY_PATTERN))), Tally())


def _file(spool: Path, take_overs: int) -> Path:
    return spool / (f"findings-{take_overs}.json" if take_overs else "findings.json")


def _read(file: Path, *, had_company: bool = False) -> Tally:
    try:
        kept = json.loads(file.read_text())
        findings = {Finding(name): Count(**count) for name, count in kept["findings"].items()}
        peak_memory = int(kept["peak_memory"] or 0)
        return Tally(findings, peak_memory, had_company or bool(kept.get("had_company")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Tally(had_company=had_company)
