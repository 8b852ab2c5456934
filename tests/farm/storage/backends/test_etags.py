import hashlib
from itertools import accumulate
from pathlib import Path

import pytest

from recording_farm.farm.storage.backends.etags import can_be_of

CONTENT = bytes(range(256)) * 10
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "film.mp4").write_bytes(CONTENT)
    return tmp_path / "film.mp4"


def in_parts(size: int) -> str:
    digests = [hashlib.md5(CONTENT[at : at + size]).digest() for at in range(0, len(CONTENT), size)]
    return f'"{hashlib.md5(b"".join(digests)).hexdigest()}-{len(digests)}"'


def not_asked(_: int) -> int:
    pytest.fail("asked for the size of the parts")


def test_etag_of_an_object_that_was_sent_in_one_go_should_be_its_md5(file: Path) -> None:
    for etag in (MD5, f'"{MD5}"'):
        assert can_be_of(etag, file, not_asked)
    assert not can_be_of(f'"{"0" * 32}"', file, not_asked)


@pytest.mark.parametrize("size", [1, 256, 2559, 2560])
def test_etag_of_parts_should_be_that_of_their_md5s(file: Path, size: int) -> None:
    assert can_be_of(in_parts(size), file, lambda _: size)
    file.write_bytes(CONTENT[:-1] + b"!")
    assert not can_be_of(in_parts(size), file, lambda _: size)


def test_etag_that_cannot_be_known_should_be_any_files(file: Path) -> None:
    assert can_be_of('"e-tag"', file, not_asked)
    assert can_be_of(f'"{MD5}-x"', file, not_asked)
    # The server does not know parts, and gives the size of the whole.
    assert can_be_of(in_parts(1000), file, lambda _: len(CONTENT))
    assert can_be_of(in_parts(1000), file, lambda _: 0)


@pytest.mark.parametrize("sizes", [[300, 1000, 260, 1000], [700, 600, 600, 660]])
def test_etag_of_parts_of_different_sizes_should_be_that_of_their_md5s(file: Path, sizes: list[int]) -> None:
    offsets = accumulate(sizes, initial=0)
    digests = [
        hashlib.md5(CONTENT[at : at + size]).digest() for at, size in zip(offsets, sizes, strict=False)
    ]
    etag = f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"
    assert can_be_of(etag, file, lambda number: sizes[number - 1])
    file.write_bytes(CONTENT[:-1] + b"!")
    assert not can_be_of(etag, file, lambda number: sizes[number - 1])
