"""The log lines about a recording: one when it starts, one when it ends."""

from recording_farm.farm.recording.model import Recording, Status, is_cancelled, stop_reason_of


def line_about(recording: Recording) -> str | None:
    """What the log says about a recording that has just changed its state; None for most changes."""
    name = f"{recording.id}, meeting {recording.meeting_id}"
    match recording.status:
        case Status.RECORDING if _is_first(recording):
            return f"recording started: {name}, node {recording.node}"
        case Status.UPLOADED:
            return f"recording ended: {name}, {_length(recording)}, {_reason(recording)}{_error(recording)}"
        case Status.ERRORED if is_cancelled(recording):
            return f"recording cancelled: {name}, stopped before its first frame"
        case Status.ERRORED:
            return f"recording failed: {name}{_error(recording)}"
        case _:
            return None


def _is_first(recording: Recording) -> bool:
    """Whether it was not paused before."""
    return sum(entry.status is Status.RECORDING for entry in recording.timeline) == 1


def _length(recording: Recording) -> str:
    seconds, size = recording.recording_duration or 0, recording.file_size or 0
    digits = 3 if 0 < size < 100_000 else 1
    return f"{seconds} s, {size / 1e6:.{digits}f} MB"


def _reason(recording: Recording) -> str:
    reason = stop_reason_of(recording)
    return f"stop reason {reason.reason}" if reason else "no stop reason"


def _error(recording: Recording) -> str:
    return f", {recording.error.code}: {recording.error.message}" if recording.error else ""
