"""The format: every part can be read by itself, and nothing can be changed unnoticed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.backends.encrypted_file import (
    CHUNK_BYTES,
    EncryptedFile,
    content_size,
    encrypt,
    is_encrypted,
)
from recording_farm.farm.storage.backends.stored_file import PIECE_BYTES

SECRET = b"the farm's secret"
KEY = "recording/film.mp4"
HEADER = 48
SEALED = CHUNK_BYTES + 16
CONTENT = random.Random(1).randbytes(2 * PIECE_BYTES + 2 * CHUNK_BYTES + 77)  # eleven chunks


@contextmanager
def opened(path: Path, secret: bytes = SECRET, key: str = KEY) -> Iterator[EncryptedFile]:
    with path.open("rb", buffering=0) as file:
        yield EncryptedFile(file, secret, key)


def content_of(path: Path, secret: bytes = SECRET, key: str = KEY) -> bytes:
    with opened(path, secret, key) as file:
        return b"".join(file.pieces(0, file.size))


def encrypted(directory: Path, content: bytes, key: str = KEY, name: str = "encrypted") -> Path:
    source = directory / "plain"
    source.write_bytes(content)
    target = directory / name
    encrypt(source, target, SECRET, key)
    return target


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CONTENT, encrypted; nobody writes to it."""
    return encrypted(tmp_path_factory.mktemp("film"), CONTENT)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where to write a file that is not what it should be."""
    return tmp_path_factory.mktemp("spoilt") / "film.mp4"


@pytest.mark.parametrize(
    "size",
    [
        *(0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1),
        *(PIECE_BYTES, PIECE_BYTES + 1, PIECE_BYTES + CHUNK_BYTES, len(CONTENT)),
    ],
)
def test_content_should_come_back_whatever_its_size(tmp_path: Path, size: int) -> None:
    file = encrypted(tmp_path, CONTENT[:size])
    assert content_size(file.stat().st_size) == size
    assert content_of(file) == CONTENT[:size]


@given(data=some.data())
@settings(deadline=None)
def test_any_range_should_be_that_of_the_content(film: Path, data: some.DataObject) -> None:
    borders = some.sampled_from(range(0, len(CONTENT), CHUNK_BYTES)).map(lambda border: border + 1)
    position = some.integers(0, len(CONTENT)) | borders
    start, end = sorted((data.draw(position), data.draw(position)))
    with opened(film) as file:
        pieces = list(file.pieces(start, end))
    assert b"".join(pieces) == CONTENT[start:end]
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)


@given(file_size=some.integers(-1, HEADER + 3 * SEALED))
@settings(deadline=None)
def test_content_size_should_be_that_of_the_only_content_that_makes_such_a_file(file_size: int) -> None:
    try:
        size = content_size(file_size)
    except ValueError:
        # Behind full chunks there would be a tag, or a part of one, with nothing to it.
        assert file_size < HEADER + 16 or 1 <= (file_size - HEADER) % SEALED <= 16
    else:
        assert file_size == HEADER + size + 16 * max(1, -(-size // CHUNK_BYTES))


def test_range_should_decrypt_only_what_is_asked(film: Path, spoilt: Path) -> None:
    data = bytearray(film.read_bytes())
    data[HEADER + 4 * SEALED + 5] ^= 1
    spoilt.write_bytes(data)
    with opened(spoilt) as file:
        for start, end in [(0, 4 * CHUNK_BYTES), (5 * CHUNK_BYTES, len(CONTENT))]:
            assert b"".join(file.pieces(start, end)) == CONTENT[start:end]
        for start, end in [(4 * CHUNK_BYTES - 1, 4 * CHUNK_BYTES + 1), (5 * CHUNK_BYTES - 1, len(CONTENT))]:
            with pytest.raises(StorageError, match="damaged"):
                list(file.pieces(start, end))


@given(position=some.integers(16, HEADER + len(CONTENT) + 11 * 16 - 1), bit=some.integers(0, 7))
@settings(deadline=None)
def test_flipped_bit_should_be_noticed(film: Path, spoilt: Path, position: int, bit: int) -> None:
    data = bytearray(film.read_bytes())
    data[position] ^= 1 << bit
    spoilt.write_bytes(data)
    with pytest.raises(StorageError) as raised:
        content_of(spoilt)
    assert (raised.value.reason, raised.value.lasting) == ("damaged", True)


@given(size=some.integers(0, HEADER + len(CONTENT) + 11 * 16 - 1) | some.integers(0, 10))
@settings(deadline=None)
def test_file_that_was_cut_off_should_not_open(film: Path, spoilt: Path, size: int) -> None:
    # Small numbers stand for so many whole chunks.
    spoilt.write_bytes(film.read_bytes()[: HEADER + size * SEALED if size <= 10 else size])
    with pytest.raises(StorageError) as raised, opened(spoilt):
        pass
    assert raised.value.reason == "damaged"


@pytest.mark.parametrize(
    "order",
    [
        [1, 0, *range(2, 11)],
        [0, *range(2, 11)],
        [0, 0, *range(1, 11)],
        [*range(9), 10],
        [*range(11), 10],
        [*range(10), 10, 10],
        [*range(10)],
        [10],
    ],
    ids=str,
)
def test_chunks_should_not_be_moved_about(film: Path, spoilt: Path, order: list[int]) -> None:
    data = film.read_bytes()
    chunks = [data[HEADER + number * SEALED : HEADER + (number + 1) * SEALED] for number in range(11)]
    spoilt.write_bytes(data[:HEADER] + b"".join(chunks[number] for number in order))
    with pytest.raises(StorageError, match="damaged"):
        content_of(spoilt)


def test_chunks_of_two_files_should_not_be_mixed(tmp_path: Path) -> None:
    one, other = (encrypted(tmp_path, CONTENT, name=name).read_bytes() for name in ("one", "other"))
    border = HEADER + 5 * SEALED
    (tmp_path / "mixed").write_bytes(one[:border] + other[border:])
    with pytest.raises(StorageError, match="damaged"):
        content_of(tmp_path / "mixed")


@pytest.mark.parametrize(
    ("secret", "key"), [(b"another secret", KEY), (b"", KEY), (SECRET, "other/film.mp4"), (SECRET, "")]
)
def test_wrong_secret_or_key_should_open_nothing(film: Path, secret: bytes, key: str) -> None:
    with pytest.raises(StorageError, match="with another secret") as raised, opened(film, secret, key):
        pass
    assert (raised.value.reason, raised.value.lasting) == ("damaged", True)
    assert SECRET.decode() not in str(raised.value)


def test_file_that_shrinks_while_it_is_read_should_be_noticed(film: Path, spoilt: Path) -> None:
    spoilt.write_bytes(film.read_bytes())
    with opened(spoilt) as file:
        pieces = file.pieces(0, file.size)
        next(pieces)
        spoilt.write_bytes(film.read_bytes()[: HEADER + 5 * SEALED])
        with pytest.raises(StorageError, match="has become shorter"):
            list(pieces)


def test_same_content_should_never_look_the_same(tmp_path: Path) -> None:
    content = b"a picture that stands still. " * 10_000
    files = [encrypted(tmp_path, content, name=name) for name in ("one", "other")]
    one, other = (file.read_bytes()[HEADER:] for file in files)
    # As likely as not a byte is there twice, but hardly eight in a row.
    assert not {one[at : at + 8] for at in range(0, len(one), 8)} & {
        other[at : at + 8] for at in range(0, len(other), 8)
    }
    assert b"picture" not in one


def test_encrypted_files_should_be_distinguished_from_others(film: Path, tmp_path: Path) -> None:
    for content in (b"", b"recording", b"\0\0\0\x20ftypisom" * 10):
        (tmp_path / "plain").write_bytes(content)
        with (tmp_path / "plain").open("rb") as file:
            assert not is_encrypted(file)
    with film.open("rb") as file:
        assert is_encrypted(file)
