"""Checksums of finished files: of short ones, of long ones that grew behind their head, of damaged ones."""

import base64
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import google_crc32c
import pytest

from recording_farm.encoder.mux import checksums
from recording_farm.encoder.mux.checksums import BodyChecksums, GrowingChecksums
from recording_farm.farm.recording.model import FileKind, FinishedFile
from recording_farm.farm.spool import finished_file
from recording_farm.farm.spool.finished_file import describe, describe_grown, is_intact

HEAD = b"head" * 100
BODY = bytes(range(256)) * 100


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "film.mp4"
    file.write_bytes(HEAD + BODY)
    return file


@pytest.fixture
def body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BodyChecksums:
    """The checksums of the body, in blocks of 10 kB."""
    monkeypatch.setattr(checksums, "BLOCK_BYTES", 10_000)
    with closing(GrowingChecksums(tmp_path / "checksums")) as growing:
        for at in range(0, len(BODY), 1000):
            growing.update(BODY[at : at + 1000])
        return growing.result()


def crc32c_of(data: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def test_short_file_should_have_both_checksums_of_the_whole(file: Path, body: BodyChecksums) -> None:
    described = describe_grown(file, FileKind.VIDEO, body)
    assert described.file == describe(file, FileKind.VIDEO)
    assert described.file.sha256 == sha256(HEAD + BODY).hexdigest()
    assert described.file.crc32c == crc32c_of(HEAD + BODY)
    assert not described.parts


def test_long_file_should_have_the_sha256_of_each_part_and_the_crc32c_of_the_whole(
    file: Path, body: BodyChecksums, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished_file, "WHOLE_SHA256_BYTES", 1000)
    described = describe_grown(file, FileKind.VIDEO, body)
    content = HEAD + BODY
    assert described.file.sha256 == ""
    assert described.file.crc32c == crc32c_of(content)
    position = 0
    for part in described.parts:
        assert part.offset == position
        assert part.sha256 == sha256(content[position : position + part.size]).hexdigest()
        position += part.size
    assert position == len(content) == described.file.size
    assert len(described.parts) == 1 + 3


@pytest.mark.parametrize("is_long", [True, False], ids=["long", "short-with-a-hole"])
def test_file_should_be_described_without_its_body(
    file: Path, body: BodyChecksums, monkeypatch: pytest.MonkeyPatch, *, is_long: bool
) -> None:
    if is_long:
        monkeypatch.setattr(finished_file, "WHOLE_SHA256_BYTES", 1000)
    before = describe_grown(file, FileKind.VIDEO, body, has_hole=not is_long)
    file.write_bytes(HEAD + bytes(len(BODY)))
    assert describe_grown(file, FileKind.VIDEO, body, has_hole=not is_long) == before
    assert before.file.crc32c == crc32c_of(HEAD + BODY)


@pytest.mark.parametrize("known", [{"sha256"}, {"crc32c"}, {"sha256", "crc32c"}], ids=sorted)
def test_copy_should_be_intact_only_with_the_same_content(file: Path, known: set[str]) -> None:
    whole = describe(file, FileKind.VIDEO)
    described = FinishedFile(
        kind=whole.kind, name=whole.name, size=whole.size, **{name: getattr(whole, name) for name in known}
    )
    assert is_intact(file, described)
    file.write_bytes(HEAD + BODY[:-1] + b"!")
    assert not is_intact(file, described)
    file.write_bytes(HEAD + BODY + b"!")
    assert not is_intact(file, described)
