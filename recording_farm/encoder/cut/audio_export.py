"""Exports the audio of a finished recording to a file of its own, see `growing_audio`."""

import shutil
from pathlib import Path
from typing import Final

import av

from recording_farm.encoder.cut.growing_audio import GrowingAudio, GrownFile
from recording_farm.encoder.errors import CutError, NothingRecordedError
from recording_farm.encoder.formats import AudioExport
from recording_farm.encoder.media.packets import whole_packets

METADATA: Final[tuple[str, ...]] = "title", "creation_time"
"""The metadata of a recording that its audio file also has."""


def export_audio(recording: Path, target: Path, export: AudioExport) -> GrownFile:
    """Make `target`, which appears only when it is complete, from the audio of a finished recording.

    It has the recording's title and time of creation. Raises CutError when the recording has no audio or
    cannot be read, or `target` cannot be written.
    """
    directory = target.with_name(f".{target.name}.export")
    try:
        # As a file object, so that a disk that fails is not taken for the file's end.
        with recording.open("rb") as file, av.open(file, "r") as source:
            if not source.streams.audio:
                raise NothingRecordedError(f"{recording} has no sound")
            sound = source.streams.audio[0]
            metadata = {key: source.metadata[key] for key in METADATA if key in source.metadata}
            with GrowingAudio(directory, sound, export, metadata) as growing:
                for packet in whole_packets(source, sound):
                    growing.add(packet)
                return growing.finish(target)
    except (av.FFmpegError, OSError) as error:
        raise CutError(f"{target} could not be made: {error}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
