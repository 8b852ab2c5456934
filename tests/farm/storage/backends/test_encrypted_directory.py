import errno
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recording_farm.farm.errors import NotFoundError
from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.backends.directory import DirectoryBackend
from recording_farm.farm.storage.backends.encrypted_directory import EncryptedDirectoryBackend
from recording_farm.farm.storage.backends.encrypted_file import encrypt
from testkit.machine.memory import watched_memory

MEBIBYTE = 1 << 20
SECRET = b"the farm's secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Not there yet."""
    return tmp_path / "store" / "films"


@pytest.fixture
def films(root: Path) -> EncryptedDirectoryBackend:
    return EncryptedDirectoryBackend(root, SECRET)


def content_of(place: DirectoryBackend, key: str) -> bytes:
    with closing(place.open(key)) as file:
        return b"".join(file.pieces(0, file.size))


def test_file_should_lie_there_encrypted_and_come_back(
    films: EncryptedDirectoryBackend, root: Path, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    placed = films.upload(film, "a/film.mp4", checkpoint, "video/mp4")
    assert (placed.location, placed.size) == (f"file://{root}/a/film.mp4", film.stat().st_size)
    assert bytes([7]) * 64 not in (root / "a/film.mp4").read_bytes()
    assert [file.name for file in (root / "a").iterdir()] == ["film.mp4"]
    assert content_of(films, "a/film.mp4") == film.read_bytes()
    films.fetch("a/film.mp4", tmp_path / "back.mp4")
    assert (tmp_path / "back.mp4").read_bytes() == film.read_bytes()


def test_empty_file_should_come_back(
    films: EncryptedDirectoryBackend, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    assert films.upload(tmp_path / "empty", "empty", checkpoint, "text/plain").size == 0
    films.fetch("empty", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


def test_file_that_has_arrived_before_should_arrive_again(
    films: EncryptedDirectoryBackend, root: Path, film: Path, checkpoint: Checkpoint
) -> None:
    placed = films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert films.upload(film, "film.mp4", checkpoint, "video/mp4") == placed
    film.unlink()
    assert films.upload(film, "film.mp4", checkpoint, "video/mp4") == placed
    assert [file.name for file in root.iterdir()] == ["film.mp4"]


def test_file_that_never_came_should_be_said(
    films: EncryptedDirectoryBackend, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="No such file"):
        films.upload(tmp_path / "gone", "film.mp4", checkpoint, "video/mp4")


def test_upload_that_breaks_off_should_leave_what_was_there(
    films: EncryptedDirectoryBackend,
    root: Path,
    film: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    before = film.read_bytes()
    film.write_bytes(b"another film")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_want_of_space)
        with pytest.raises(StorageError, match="disk is full") as raised:
            films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("full", False)
    assert [file.name for file in root.iterdir()] == ["film.mp4"]
    assert content_of(films, "film.mp4") == before
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert content_of(films, "film.mp4") == b"another film"


def fail_for_want_of_space(_: int) -> None:
    raise OSError(errno.ENOSPC, "no space")


@pytest.mark.parametrize("position", [40, 5 * MEBIBYTE], ids=["salt", "chunk"])
def test_bytes_that_differ_on_the_disk_should_be_noticed(
    films: EncryptedDirectoryBackend,
    root: Path,
    film: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    position: int,
) -> None:
    def encrypt_wrongly(source: Path, draft: Path, *arguments: Any) -> bytes:
        digest = encrypt(source, draft, *arguments)
        flip(draft, position)
        return digest

    monkeypatch.setattr("recording_farm.farm.storage.backends.encrypted_directory.encrypt", encrypt_wrongly)
    with pytest.raises(StorageError) as raised:
        films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert raised.value.reason == "damaged"
    assert list(root.iterdir()) == []


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1]))


def test_damaged_file_should_not_be_fetched(
    films: EncryptedDirectoryBackend, root: Path, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    flip(root / "film.mp4", 5 * MEBIBYTE)
    back = tmp_path / "back"
    back.mkdir()
    (back / "film.mp4").write_bytes(b"what was there")
    with pytest.raises(StorageError, match="damaged") as raised:
        films.fetch("film.mp4", back / "film.mp4")
    assert (raised.value.reason, raised.value.lasting) == ("damaged", True)
    assert [file.read_bytes() for file in back.iterdir()] == [b"what was there"]


def test_files_should_not_be_exchanged(
    films: EncryptedDirectoryBackend, root: Path, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    for key in ("a/film.mp4", "b/film.mp4"):
        films.upload(film, key, checkpoint, "video/mp4")
    (root / "a/film.mp4").replace(root / "b/film.mp4")
    for act in (lambda: films.open("b/film.mp4"), lambda: films.fetch("b/film.mp4", tmp_path / "back")):
        with pytest.raises(StorageError, match="belongs elsewhere") as raised:
            act()
        assert raised.value.reason == "damaged"
    assert not (tmp_path / "back").exists()


def test_wrong_secret_should_be_said(
    films: EncryptedDirectoryBackend, root: Path, film: Path, checkpoint: Checkpoint
) -> None:
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    with pytest.raises(StorageError, match="with another secret") as raised:
        EncryptedDirectoryBackend(root, b"another secret").open("film.mp4")
    assert raised.value.reason == "damaged"
    assert "another secret" not in repr(vars(raised.value)).replace("with another secret", "")


def test_files_from_before_there_was_encryption_should_be_served(
    films: EncryptedDirectoryBackend, root: Path, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    placed = DirectoryBackend(root).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert content_of(films, "film.mp4") == film.read_bytes()
    films.fetch("film.mp4", tmp_path / "back.mp4")
    assert (tmp_path / "back.mp4").read_bytes() == film.read_bytes()
    film.rename(tmp_path / "gone")
    assert films.upload(film, "film.mp4", checkpoint, "video/mp4") == placed


def test_encrypted_file_should_not_be_served_as_a_film_when_there_is_no_encryption(
    films: EncryptedDirectoryBackend, root: Path, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    plain = DirectoryBackend(root)
    for act in (lambda: plain.open("film.mp4"), lambda: plain.fetch("film.mp4", tmp_path / "back")):
        with pytest.raises(StorageError, match="FARM_STORE_ENCRYPTION") as raised:
            act()
        assert (raised.value.reason, raised.value.lasting) == ("encrypted", True)
    plain.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert content_of(plain, "film.mp4") == film.read_bytes()


@pytest.fixture
def killed(root: Path, long_film: Path) -> None:
    """An upload that was killed in its midst."""
    script = (
        "import sys; from pathlib import Path; from recording_farm.farm.storage.backend import Checkpoint\n"
        "from recording_farm.farm.storage.backends.encrypted_directory import EncryptedDirectoryBackend\n"
        "root, film = map(Path, sys.argv[1:])\n"
        "films = EncryptedDirectoryBackend(root, b'secret')\n"
        "films.upload(film, 'a/film.mp4', Checkpoint(film.with_suffix('.checkpoint')), 'video/mp4')\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(root), str(long_film)]) as upload:
        deadline = time.monotonic() + 20
        while not any(draft.stat().st_size for draft in root.glob("a/.*.part")):
            assert upload.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        upload.kill()
    assert len(list((root / "a").iterdir())) == 1


@pytest.mark.usefixtures("killed")
def test_upload_that_was_killed_should_leave_nothing_when_it_is_tried_again(
    films: EncryptedDirectoryBackend, root: Path, film: Path, checkpoint: Checkpoint
) -> None:
    with pytest.raises(NotFoundError):
        films.open("a/film.mp4")
    films.upload(film, "a/other.mp4", checkpoint, "video/mp4")
    assert len(list((root / "a").iterdir())) == 2
    films.upload(film, "a/film.mp4", checkpoint, "video/mp4")
    assert {file.name for file in (root / "a").iterdir()} == {"film.mp4", "other.mp4"}


@pytest.mark.usefixtures("killed")
def test_upload_that_was_killed_should_leave_nothing_when_the_file_is_deleted(
    films: EncryptedDirectoryBackend, root: Path
) -> None:
    films.delete("a/film.mp4")
    assert list(root.iterdir()) == []


def test_missing_file_should_be_said(films: EncryptedDirectoryBackend, tmp_path: Path) -> None:
    for key in ("film.mp4", "../film.mp4"):
        with pytest.raises(NotFoundError):
            films.open(key)
        with pytest.raises(StorageError) as raised:
            films.fetch(key, tmp_path / "back")
        assert (raised.value.reason, raised.value.lasting) == ("not_found", True)


def test_file_that_is_replaced_should_be_read_to_its_end(
    films: EncryptedDirectoryBackend, film: Path, checkpoint: Checkpoint
) -> None:
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    before = film.read_bytes()
    with closing(films.open("film.mp4")) as file:
        pieces = file.pieces(0, file.size)
        begin = next(pieces)
        film.write_bytes(b"another film")
        films.upload(film, "film.mp4", checkpoint, "video/mp4")
        films.delete("film.mp4")
        assert begin + b"".join(pieces) == before


def test_memory_should_not_grow_with_the_file(
    films: EncryptedDirectoryBackend, long_film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with watched_memory() as growth:
        films.upload(long_film, "film.mp4", checkpoint, "video/mp4")
        films.fetch("film.mp4", tmp_path / "back.mp4")
    assert (tmp_path / "back.mp4").stat().st_size == long_film.stat().st_size
    assert growth.bytes <= 32 * MEBIBYTE
