"""The cut of an audio recording: the audio of its takes joined, and encoded again if that was requested."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from recording_farm.encoder.cut.audio_export import export_audio
from recording_farm.encoder.cut.cut import cut
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.cut.joiner import TakeMedia
from recording_farm.encoder.formats import AudioCodec, AudioExport, Format

AS_TAKEN: Final = AudioExport(AudioCodec.AAC, channels=2)
"""The encoding of the takes: with it, nothing is encoded again."""


def cut_audio(
    takes: Sequence[TakeMedia], target: Path, export: AudioExport, title: str | None = None
) -> CutFile:
    """Join `takes`, in order, into `target`, which appears only when it is complete.

    The file contains the start time of the first take and the `title`. Takes without audio are left out.
    Raises NothingRecordedError when nothing is left, CutError when the disk fails.
    """
    if export == AS_TAKEN:
        return cut(takes, target, Format(audio_only=export), title)
    joined = target.with_name(f".{target.name}.joined")
    try:
        result = cut(takes, joined, Format(audio_only=export), title)
        export_audio(joined, target, export)
    finally:
        joined.unlink(missing_ok=True)
    return replace(result, path=target)
