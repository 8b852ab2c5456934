"""The format that a recording is encoded in."""

from recording_farm.encoder.formats import Format
from recording_farm.farm.recording.model import Recording


def format_of(recording: Recording) -> Format:
    """How a recording is encoded; one that asks for no file at all has its picture kept."""
    audio_only = None if recording.video_file else recording.audio_file
    return Format(
        recording.codec, recording.width, recording.height, recording.fps, audio_only, recording.profile
    )
