"""The names of files in an outbox, besides the finished ones."""

from pathlib import Path

from recording_farm.encoder.cut.audio_cut import AS_TAKEN
from recording_farm.farm.recording.model import Recording


def cut_name(recording: Recording) -> str:
    """The name of the file that the takes are cut into.

    It is the finished file, or the source of it: of an archive, or of audio in another encoding.
    """
    file = Path(recording.output_file_name)
    if recording.timed_texts:
        return f".{file.stem}.mp4"
    if recording.video_file or recording.audio_file in {None, AS_TAKEN}:
        return file.name
    return f".{file.stem}.m4a"


def is_main_file(recording: Recording) -> bool:
    """Whether the takes are cut directly into the finished file."""
    return cut_name(recording) == recording.output_file_name


def audio_name(recording: Recording) -> str | None:
    """The name of the exported audio; None if there is none, or the takes are cut into it."""
    if recording.audio_file is None or (not recording.video_file and recording.audio_file == AS_TAKEN):
        return None
    return Path(recording.output_file_name).with_suffix(recording.audio_file.codec.suffix).name
