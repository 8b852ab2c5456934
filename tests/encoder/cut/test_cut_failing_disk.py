"""A disk that fails while takes are read, which says nothing of the takes."""

import errno
import io
import os
from pathlib import Path, PosixPath
from typing import Any

import pytest

from recording_farm.encoder.cut.audio_cut import cut_audio
from recording_farm.encoder.cut.audio_export import export_audio
from recording_farm.encoder.cut.cut import cut
from recording_farm.encoder.cut.joiner import TakeMedia
from recording_farm.encoder.errors import CutError, NothingRecordedError
from recording_farm.encoder.formats import AudioCodec, AudioExport, Codec, Format
from testkit.encoder.beeps import make_take

# In lengths of the file. Its end is read first, then its packets.
SHARES = [0.0, 0.5, 1.1, 1.5, 1.9]


class FailingFile(io.FileIO):
    """A file that fails once so much of it was read."""

    def __init__(self, path: Path, share: float) -> None:
        super().__init__(path)
        self._left = round(path.stat().st_size * share)

    def readinto(self, buffer: Any) -> int | None:
        return self._read(super().readinto(buffer))

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._read(len(data))
        return data

    def _read(self, size: int | None) -> int | None:
        self._left -= size or 0
        if self._left < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return size


class PathOnFailingDisk(PosixPath):
    """The path of such a file."""

    share = 0.0

    def open(self, *_: object, **__: object) -> Any:
        return FailingFile(Path(self), self.share)


def failing(path: Path, share: float) -> Path:
    bad = PathOnFailingDisk(path)
    bad.share = share
    return bad


def joined(takes: list[TakeMedia], target: Path) -> None:
    if target.suffix == ".m4a":
        cut_audio(takes, target, AudioExport())
    else:
        cut(takes, target, Format(Codec.VP8 if target.suffix == ".webm" else Codec.H264, 160, 90))


@pytest.fixture(scope="module", params=[".mp4", ".webm", ".m4a"])
def takes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[TakeMedia]:
    """Two takes."""
    suffix: str = request.param
    directory = tmp_path_factory.mktemp("takes")
    picture_from = None if suffix == ".m4a" else 3.5
    files = [directory / f"take-00{number}{suffix}" for number in range(2)]
    return [TakeMedia(make_take(file, 3.4, 7.1, picture_from=picture_from)) for file in files]


@pytest.mark.parametrize("share", SHARES)
def test_take_that_cannot_be_read_now_should_not_be_left_out(
    takes: list[TakeMedia], tmp_path: Path, share: float
) -> None:
    whole, other = takes
    target = tmp_path / f"out{whole.path.suffix}"
    with pytest.raises(CutError, match="Input/output error") as raised:
        joined([whole, TakeMedia(failing(other.path, share))], target)
    assert not isinstance(raised.value, NothingRecordedError)
    assert list(tmp_path.iterdir()) == []


def test_take_that_cannot_be_opened_now_should_not_be_left_out(
    takes: list[TakeMedia], tmp_path: Path
) -> None:
    (whole, _) = takes
    directory = tmp_path / whole.path.name
    directory.mkdir()
    with pytest.raises(CutError, match="Is a directory") as raised:
        joined([TakeMedia(directory)], tmp_path / f"out{whole.path.suffix}")
    assert not isinstance(raised.value, NothingRecordedError)


@pytest.mark.parametrize("export", [AudioExport(), AudioExport(AudioCodec.MP3)], ids=str)
def test_sound_of_a_file_that_cannot_be_read_should_not_end_early(
    takes: list[TakeMedia], tmp_path: Path, export: AudioExport
) -> None:
    file = tmp_path / f"file{takes[0].path.suffix}"
    joined(takes, file)
    target = tmp_path / f"sound{export.codec.suffix}"
    with pytest.raises(CutError, match="Input/output error"):
        export_audio(failing(file, 0.9), target, export)
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
