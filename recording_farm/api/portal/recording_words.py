"""The words that the pages use for the fields of a recording."""

from collections.abc import Mapping
from typing import Any, Final

from recording_farm.api.portal.page import size
from recording_farm.farm.recording.files import FilesState
from recording_farm.farm.recording.findings import Finding
from recording_farm.farm.recording.transfers import OVER, STORE, TransferState

MAX_LOST_SHARE: Final = 0.005
"""The share of lost frames above which the list warns of a recording."""

_FINDINGS: Final = {
    Finding.SOUND_ELSEWHERE: "Audio plays on another device",
    Finding.NO_SOUND: "No audio",
    Finding.FROZEN_PICTURE: "Page frozen",
    Finding.FROZEN_VIDEO: "Video frozen",
    Finding.FOREIGN_WINDOW: "Another window opened",
    Finding.COVERED_PICTURE: "Page covered by a window",
    Finding.BLACK_PICTURE: "Black picture",
    Finding.BLANK_PICTURE: "Blank picture",
    Finding.PAGE_OFFLINE: "Page offline",
    Finding.PAGE_CUT_OFF: "Page disconnected",
    Finding.DISK_FULL: "Disk nearly full",
    Finding.MEMORY: "Too much memory",
    Finding.STAGE_DISK: "Browser's disk full",
    Finding.STAGE_TASKS: "Too many processes",
    Finding.ENCODER_SLOW: "Encoder too slow",
    Finding.MEETING_EMPTY: "Meeting empty",
}

_HARMLESS: Final = frozenset(
    {Finding.MEETING_EMPTY, Finding.MEMORY, Finding.DISK_FULL, Finding.FOREIGN_WINDOW, Finding.ENCODER_SLOW}
)
"""Findings that by themselves leave nothing to see or hear in the file."""

_STOP_REASONS: Final = {
    "API_CALL": "stopped by API or portal",
    "STOPPED_BEFORE_START": "stopped before it started",
    "MAX_DURATION": "reached the maximum duration",
    "PAGE_ENDED": "the page ended the meeting",
    "ALL_PEERS_LEFT": "all participants left",
    "INTERNAL_ERROR": "ended by the farm",
    "NODE_SHUT_DOWN": "ended by the farm (node shut down)",
}

_ERRORS: Final = {
    "disk_full": "disk full",
    "node_lost": "node lost",
}


def finding_in_words(finding: object) -> str:
    """A finding; one of a newer version by its own name."""
    name = str(finding or "unknown")
    return next((words for known, words in _FINDINGS.items() if known == name), _capitalized(name))


def stop_in_words(recording: Mapping[str, Any]) -> str:
    """Why a recording ended; empty if it has not."""
    reason = recording.get("stop_reason")
    if reason is None:
        return ""
    words = _STOP_REASONS.get(reason["reason"]) or _capitalized(reason["reason"]).lower()
    caller = (reason.get("caller") or {}).get("name")
    if reason["reason"] == "API_CALL" and caller and reason["caller"]["type"] == "USER":
        words = f"stopped by {caller} in the meeting"
    cause = _ERRORS.get((recording.get("error") or {}).get("code", ""))
    return f"{words} ({cause})" if reason["reason"] == "INTERNAL_ERROR" and cause else words


def lost_share(recording: Mapping[str, Any]) -> float:
    """The share of its frames that a recording has lost."""
    quality = recording.get("quality") or {}
    captured, lost = quality.get("frames_captured") or 0, quality.get("frames_lost") or 0
    return lost / (captured + lost) if lost else 0.0


def quality_warning(recording: Mapping[str, Any]) -> str:
    """What a viewer of the file will notice, in a few words; empty if it is as it should be."""
    share = lost_share(recording)
    if share > MAX_LOST_SHARE:
        return f"{100 * share:.{0 if share >= 0.01 else 1}f} % of the frames are lost"
    quality = recording.get("quality") or {}
    found = {
        name: count["seconds"]
        for name, count in (quality.get("findings") or {}).items()
        if name not in _HARMLESS and isinstance(count.get("seconds"), int | float) and count["seconds"]
    }
    if not found:
        return ""
    worst = max(found, key=lambda name: found[name])
    return f"{finding_in_words(worst)} for {found[worst]:.0f} s"


def state_in_words(recording: Mapping[str, Any]) -> str:
    """The state of a recording; of one that ended, also `cancelled` and `expired`."""
    if recording["files_state"] == FilesState.EXPIRED:
        return "expired"
    if recording["cancelled"]:
        return "cancelled"
    return str(recording["status"]).lower()


def queue_in_words(recording: Mapping[str, Any]) -> str:
    """The position of a recording in the queue and why it waits; empty if it does not."""
    position = recording["queue_position"]
    if position is None:
        return ""
    place = "Next in the queue" if position == 1 else f"{ordinal(position)} in the queue"
    waiting = recording["waiting"]
    return f"{place}. {waiting['message'].rstrip('.')}" if waiting else place


def upload_warning(recording: Mapping[str, Any]) -> str:
    """Which upload has failed so far, and why; empty if none has."""
    for transfer in recording["transfers"]:
        error = transfer.get("error")
        if error and transfer["state"] != TransferState.DONE:
            target = "the farm's store" if transfer["target"] == STORE else transfer["target"]
            verb = "failed" if transfer["state"] == TransferState.GIVEN_UP else "is retried"
            return f"Upload to {target} {verb}: {error['message']}"
    return ""


def copy_in_words(transfer: Mapping[str, Any], *, is_running: bool) -> str:
    """How far the copy of a transfer is before it is done; empty if nothing is known of it."""
    if transfer["state"] in OVER or transfer["in_parts"] is None:
        return ""
    if not transfer["in_parts"]:
        when = "Stored" if transfer["uploaded_bytes"] is None else "Uploaded"
        return f"{when} when the recording ends" if is_running else ""
    uploaded = f"{size(transfer['uploaded_bytes'])} uploaded"
    return f"{uploaded}, {_span(transfer['behind_seconds'])} behind" if is_running else uploaded


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _capitalized(name: str) -> str:
    return name.replace("_", " ").capitalize()


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `11th`, `503rd`."""
    suffix = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def times_in_words(count: int) -> str:
    """`once`, `twice`, `3 times`."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
