"""The file of an interactive recording: a tar of HLS with the page's timed texts as ID3 tags.

The format is the recording API's: a playlist, segments of about ten seconds, tags in MPEG-TS.
"""

import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.live.hls import TimedText, make_hls
from recording_farm.encoder.media.atomic_media import atomic_media

SUFFIX: Final = ".tar"
SEGMENT_SECONDS: Final = 10

_NAME: Final = "index"


def make_archive(cut: CutFile, texts: Sequence[TimedText], target: Path) -> None:
    """Write the archive `target` of a finished MP4 atomically.

    Texts of takes that are not in the file are omitted. Raises OSError, CutError.
    """
    placed = place_texts(cut, texts)
    with (
        atomic_media(target) as partial,
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".hls-") as directory,
        tarfile.open(partial, "w") as archive,
    ):
        for file in make_hls(cut.path, Path(directory), _NAME, placed, seconds=SEGMENT_SECONDS):
            archive.add(file, file.name, filter=_anonymous)


def place_texts(cut: CutFile, texts: Sequence[TimedText]) -> list[tuple[int, str]]:
    """The texts with their times in the finished file, in µs, clamped to its duration."""
    offsets = {joint.take: joint.offset for joint in cut.joints}
    return [
        (min(max(0, text.us + offsets[text.take]), cut.duration_us), text.text)
        for text in texts
        if text.take in offsets
    ]


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
