"""Version 2 of the format: every range can be read by itself, and nothing can be changed unnoticed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from recording_farm.farm.storage.backend import Part, StorageError
from recording_farm.farm.storage.backends.directory import DirectoryBackend
from recording_farm.farm.storage.backends.directory_parts import Drafts
from recording_farm.farm.storage.backends.encrypted_directory import EncryptedDirectoryBackend
from recording_farm.farm.storage.backends.encrypted_file import CHUNK_BYTES
from recording_farm.farm.storage.backends.encrypted_parts import EncryptedParts
from recording_farm.farm.storage.backends.stored_file import PIECE_BYTES
from testkit.storage.parts import parts_of_content, put_in_parts, send_all

SECRET = b"the farm's secret"
KEY = "recording/film.mp4"
SIZES = (CHUNK_BYTES + 77, PIECE_BYTES + 3, 0, CHUNK_BYTES, 1)
CONTENT = random.Random(3).randbytes(sum(SIZES) + 2 * CHUNK_BYTES + 5)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CONTENT, encrypted in parts; nobody writes to it."""
    root = tmp_path_factory.mktemp("film")
    put_in_parts(EncryptedDirectoryBackend(root, SECRET), KEY, CONTENT, SIZES)
    return root / KEY


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where to write a file that is not what it should be."""
    return tmp_path_factory.mktemp("spoilt") / "film.mp4"


@contextmanager
def opened(path: Path, secret: bytes = SECRET, key: str = KEY) -> Iterator[EncryptedParts]:
    with path.open("rb", buffering=0) as file:
        yield EncryptedParts(file, secret, key)


def content_of(path: Path, secret: bytes = SECRET, key: str = KEY) -> bytes:
    with opened(path, secret, key) as file:
        return b"".join(file.pieces(0, file.size))


@given(data=some.data())
@settings(deadline=None)
def test_any_range_should_be_that_of_the_content(film: Path, data: some.DataObject) -> None:
    borders = some.sampled_from([sum(SIZES[:count]) for count in range(len(SIZES) + 1)])
    position = some.integers(0, len(CONTENT)) | borders | borders.map(lambda border: border + 1)
    start, end = sorted((data.draw(position), data.draw(position)))
    with opened(film) as file:
        assert file.size == len(CONTENT)
        pieces = list(file.pieces(start, end))
    assert b"".join(pieces) == CONTENT[start:end]
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)


def test_empty_content_should_come_back(tmp_path: Path) -> None:
    put_in_parts(EncryptedDirectoryBackend(tmp_path, SECRET), KEY, b"", ())
    assert content_of(tmp_path / KEY) == b""


@given(data=some.data(), bit=some.integers(0, 7))
@settings(deadline=None)
def test_flipped_bit_should_be_noticed(film: Path, spoilt: Path, data: some.DataObject, bit: int) -> None:
    changed = bytearray(film.read_bytes())
    # The part without content has a tag that nobody reads.
    unread = 32 + sum(SIZES[1:3]) + 16 * 5
    position = data.draw(
        some.integers(16, len(changed) - 1).filter(lambda at: not unread <= at < unread + 16)
        | some.integers(16, 31)
        | some.integers(len(changed) - 300, len(changed) - 1)
    )
    changed[position] ^= 1 << bit
    spoilt.write_bytes(changed)
    with pytest.raises(StorageError) as raised:
        content_of(spoilt)
    assert raised.value.reason == "damaged"


@given(data=some.data())
@settings(deadline=None)
def test_file_that_was_cut_off_should_not_open(film: Path, spoilt: Path, data: some.DataObject) -> None:
    whole = film.read_bytes()
    spoilt.write_bytes(whole[: data.draw(some.integers(16, len(whole) - 1))])
    with pytest.raises(StorageError) as raised, opened(spoilt):
        pass
    assert raised.value.reason == "damaged"


def test_table_and_part_of_another_upload_of_the_same_file_should_not_fit(tmp_path: Path) -> None:
    files = []
    for name in ("one", "other"):
        put_in_parts(EncryptedDirectoryBackend(tmp_path / name, SECRET), KEY, CONTENT, SIZES)
        files.append((tmp_path / name / KEY).read_bytes())
    one, other = files
    assert len(one) == len(other)
    for border in (32, 32 + CHUNK_BYTES, len(one) - 200):
        (tmp_path / "mixed").write_bytes(one[:border] + other[border:])
        if border == 32:  # the headers are the same, so this is the other file
            assert content_of(tmp_path / "mixed") == CONTENT
            continue
        with pytest.raises(StorageError, match="damaged"):
            content_of(tmp_path / "mixed")


@pytest.mark.parametrize(
    ("secret", "key"), [(b"another secret", KEY), (b"", KEY), (SECRET, "other/film.mp4"), (SECRET, "")]
)
def test_wrong_secret_or_key_should_open_nothing(film: Path, secret: bytes, key: str) -> None:
    with pytest.raises(StorageError, match="with another secret") as raised, opened(film, secret, key):
        pass
    assert (raised.value.reason, raised.value.lasting) == ("damaged", True)


def test_part_that_is_sent_again_should_have_another_key_and_place(tmp_path: Path) -> None:
    films = EncryptedDirectoryBackend(tmp_path, SECRET)
    begun = films.begin_parts(KEY, "video/mp4")
    part = Part(2, 0, 1000)
    receipts = [films.send_part(KEY, begun, part, CONTENT[:1000]) for _ in range(3)]
    assert len({receipt["salt"] for receipt in receipts}) == 3
    assert len({receipt["position"] for receipt in receipts}) == 3
    body = Drafts.of(tmp_path / KEY, begun).body.read_bytes()
    ciphertexts = {body[each["position"] : each["position"] + 1016] for each in receipts}
    assert len(ciphertexts) == 3
    assert all(CONTENT[:64] not in text for text in ciphertexts)


def test_part_of_a_writer_that_was_superseded_should_not_be_in_the_file(tmp_path: Path) -> None:
    films = EncryptedDirectoryBackend(tmp_path, SECRET)
    begun = films.begin_parts(KEY, "video/mp4")
    parts = parts_of_content(CONTENT, SIZES)
    sent = send_all(films, KEY, begun, parts)
    for part, data in parts:
        films.send_part(KEY, begun, part, bytes(len(data)))
    films.finish_parts(KEY, begun, sent)
    assert content_of(tmp_path / KEY) == CONTENT


def test_finish_that_was_broken_off_should_be_repeatable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = EncryptedDirectoryBackend(tmp_path, SECRET)
    begun = films.begin_parts(KEY, "video/mp4")
    sent = send_all(films, KEY, begun, parts_of_content(CONTENT, SIZES))

    def fail(*_: object) -> None:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr("recording_farm.farm.storage.backends.encrypted_parts.put_in_place", fail)
        with pytest.raises(StorageError, match="disk is full"):
            films.finish_parts(KEY, begun, sent)
    films.finish_parts(KEY, begun, sent)
    assert content_of(tmp_path / KEY) == CONTENT


def test_lost_bytes_of_a_part_should_be_noticed_before_the_file_is_there(tmp_path: Path) -> None:
    films = EncryptedDirectoryBackend(tmp_path, SECRET)
    begun = films.begin_parts(KEY, "video/mp4")
    sent = send_all(films, KEY, begun, parts_of_content(CONTENT, SIZES))
    body = Drafts.of(tmp_path / KEY, begun).body
    body.write_bytes(body.read_bytes()[:-1])
    with pytest.raises(StorageError) as raised:
        films.finish_parts(KEY, begun, sent)
    assert raised.value.reason == "upload_gone"


def test_store_without_encryption_should_say_that_the_file_is_encrypted(film: Path) -> None:
    plain = DirectoryBackend(film.parents[1])
    with pytest.raises(StorageError) as raised:
        plain.open(KEY)
    assert raised.value.reason == "encrypted"
