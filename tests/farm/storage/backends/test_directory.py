import errno
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recording_farm.farm.errors import NotFoundError
from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.backends.directory import DirectoryBackend
from testkit.machine.memory import watched_memory

MEBIBYTE = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Not there yet."""
    return tmp_path / "store" / "films"


@pytest.fixture
def other_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be linked."""
    monkeypatch.setattr(os, "link", failing(errno.EXDEV))


def failing(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_file_should_arrive_whole_without_being_copied(
    root: Path, film: Path, checkpoint: Checkpoint
) -> None:
    placed = DirectoryBackend(root).upload(film, "a/film.mp4", checkpoint, "video/mp4")
    assert (placed.location, placed.size) == (f"file://{root}/a/film.mp4", film.stat().st_size)
    assert (root / "a/film.mp4").samefile(film)
    film.unlink()
    assert (root / "a/film.mp4").stat().st_size == placed.size


@pytest.mark.usefixtures("other_file_system")
def test_file_should_be_copied_between_file_systems(root: Path, film: Path, checkpoint: Checkpoint) -> None:
    DirectoryBackend(root).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert not (root / "film.mp4").samefile(film)
    assert (root / "film.mp4").read_bytes() == film.read_bytes()
    assert [file.name for file in root.iterdir()] == ["film.mp4"]


@pytest.mark.usefixtures("other_file_system")
def test_copy_that_breaks_off_should_leave_nothing_and_what_was_there(
    root: Path, film: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = DirectoryBackend(root)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    before = film.read_bytes()

    def break_off(_: Path, draft: Path) -> None:
        draft.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "no space")

    film.write_bytes(b"another film")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", break_off)
        with pytest.raises(StorageError, match="disk is full") as raised:
            films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("full", False)
    assert [file.read_bytes() for file in root.iterdir()] == [before]
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert films.path_of("film.mp4").read_bytes() == b"another film"


@pytest.mark.usefixtures("other_file_system")
def test_bytes_that_differ_in_the_copy_should_be_noticed(
    root: Path, film: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def copy_wrongly(source: Path, draft: Path) -> None:
        copy(source, draft)
        with draft.open("r+b") as file:
            file.write(b"!")

    monkeypatch.setattr(shutil, "copyfile", copy_wrongly)
    with pytest.raises(StorageError, match="damaged in transit") as raised:
        DirectoryBackend(root).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert raised.value.reason == "damaged"
    assert list(root.iterdir()) == []


def test_file_that_has_arrived_before_should_arrive_again(
    root: Path, film: Path, checkpoint: Checkpoint
) -> None:
    films = DirectoryBackend(root)
    placed = films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert films.upload(film, "film.mp4", checkpoint, "video/mp4") == placed
    film.unlink()
    assert films.upload(film, "film.mp4", checkpoint, "video/mp4") == placed
    assert [file.name for file in root.iterdir()] == ["film.mp4"]


def test_directory_that_cannot_be_made_should_be_said(film: Path, checkpoint: Checkpoint) -> None:
    below_a_file = DirectoryBackend(film / "below")
    for act in (below_a_file.check, lambda: below_a_file.upload(film, "film.mp4", checkpoint, "video/mp4")):
        with pytest.raises(StorageError, match="not a directory") as raised:
            act()
        assert (raised.value.reason, raised.value.lasting) == ("no_bucket", True)


def test_directory_that_may_not_be_written_should_be_said(
    root: Path, film: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    # root may write everywhere, and the tests may run as root
    monkeypatch.setattr(os, "link", failing(errno.EACCES))
    with pytest.raises(StorageError, match="no permission to write there") as raised:
        DirectoryBackend(root).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("no_permission", True)


@pytest.mark.parametrize(
    "key", ["../film.mp4", "a/../../film.mp4", "/etc/passwd", "a//b", ".hidden", "", "a\0b", "a" * 256]
)
def test_key_that_could_lead_elsewhere_should_be_refused(
    root: Path, film: Path, checkpoint: Checkpoint, key: str
) -> None:
    films = DirectoryBackend(root)
    for act in (lambda: films.upload(film, key, checkpoint, "video/mp4"), lambda: films.delete(key)):
        with pytest.raises(StorageError) as raised:
            act()
        assert (raised.value.reason, raised.value.lasting) == ("bad_path", True)
    with pytest.raises(NotFoundError):
        films.path_of(key)


def test_symbolic_link_should_not_be_followed_out(
    root: Path, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/film.mp4").write_bytes(b"not the farm's")
    root.mkdir(parents=True)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "film.mp4").symlink_to(tmp_path / "outside/film.mp4")
    films = DirectoryBackend(root)
    for act in (
        lambda: films.upload(film, "out/film.mp4", checkpoint, "video/mp4"),
        lambda: films.upload(film, "out/new/film.mp4", checkpoint, "video/mp4"),
        lambda: films.delete("out/film.mp4"),
    ):
        with pytest.raises(StorageError, match="points outside the directory"):
            act()
    for key in ("out/film.mp4", "film.mp4"):
        with pytest.raises(NotFoundError):
            films.path_of(key)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    films.delete("film.mp4")
    assert (tmp_path / "outside/film.mp4").read_bytes() == b"not the farm's"


def test_path_should_be_that_of_the_file(root: Path, film: Path, checkpoint: Checkpoint) -> None:
    films = DirectoryBackend(root)
    films.upload(film, "a/film.mp4", checkpoint, "video/mp4")
    assert films.path_of("a/film.mp4") == root / "a/film.mp4"
    for key in ("a", "a/other.mp4"):
        with pytest.raises(NotFoundError):
            films.path_of(key)


def test_delete_should_take_empty_directories_along_and_not_mind_what_is_not_there(
    root: Path, film: Path, checkpoint: Checkpoint
) -> None:
    films = DirectoryBackend(root)
    films.upload(film, "a/b/1.mp4", checkpoint, "video/mp4")
    films.upload(film, "a/2.mp4", checkpoint, "video/mp4")
    films.delete("a/b/1.mp4")
    assert [path.name for path in (root / "a").iterdir()] == ["2.mp4"]
    films.delete("a/2.mp4")
    films.delete("a/2.mp4")
    assert list(root.iterdir()) == []
    assert film.exists()


def test_there_should_be_no_link(root: Path) -> None:
    assert DirectoryBackend(root).link("film.mp4", 60, "film.mp4", "video/mp4") is None


def test_file_should_be_fetched_without_being_copied(
    root: Path, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    films = DirectoryBackend(root)
    films.upload(film, "a/film.mp4", checkpoint, "video/mp4")
    for _ in range(2):
        films.fetch("a/film.mp4", tmp_path / "back.mp4")
        assert (tmp_path / "back.mp4").samefile(root / "a/film.mp4")
    films.delete("a/film.mp4")
    assert (tmp_path / "back.mp4").read_bytes() == film.read_bytes()


@pytest.mark.usefixtures("other_file_system")
def test_file_should_be_fetched_from_another_file_system_and_replace_what_is_there(
    root: Path, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    films = DirectoryBackend(root)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    (tmp_path / "back").mkdir()
    back = tmp_path / "back" / "film.mp4"
    back.write_bytes(b"another film")
    films.fetch("film.mp4", back)
    assert not back.samefile(root / "film.mp4")
    assert back.read_bytes() == film.read_bytes()
    assert list(back.parent.iterdir()) == [back]


def test_fetch_should_say_what_is_wrong(
    root: Path, film: Path, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = DirectoryBackend(root)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    back = tmp_path / "back.mp4"
    for key in ("gone.mp4", "a/film.mp4", "../film.mp4", ".hidden", ""):
        with pytest.raises(StorageError) as raised:
            films.fetch(key, back)
        assert (raised.value.reason, raised.value.lasting) == ("not_found", True)
    with pytest.raises(StorageError, match="No such file") as raised:
        films.fetch("film.mp4", tmp_path / "no directory" / "back.mp4")
    assert str(tmp_path / "no directory") in str(raised.value)
    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    with pytest.raises(StorageError, match="disk is full"):
        films.fetch("film.mp4", back)
    assert not back.exists()


def test_open_file_should_give_any_part_of_what_it_was(
    root: Path, film: Path, checkpoint: Checkpoint
) -> None:
    films = DirectoryBackend(root)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    content, modified_ns = film.read_bytes(), film.stat().st_mtime_ns
    with closing(films.open("film.mp4")) as file:
        films.delete("film.mp4")
        assert (file.size, file.modified_ns) == (len(content), modified_ns)
        for start, end in [(0, len(content)), (0, 0), (5, 6), (MEBIBYTE - 1, 3 * MEBIBYTE + 1)]:
            assert b"".join(file.pieces(start, end)) == content[start:end]
    with pytest.raises(NotFoundError):
        films.open("film.mp4")


def test_file_that_shrinks_while_it_is_read_should_be_noticed(
    root: Path, film: Path, checkpoint: Checkpoint
) -> None:
    films = DirectoryBackend(root)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    with closing(films.open("film.mp4")) as file:
        os.truncate(root / "film.mp4", 5 * MEBIBYTE)
        with pytest.raises(StorageError, match="has become shorter") as raised:
            list(file.pieces(0, file.size))
    assert (raised.value.reason, raised.value.lasting) == ("damaged", True)


def test_check_should_leave_nothing_behind(root: Path) -> None:
    DirectoryBackend(root).check()
    assert list(root.iterdir()) == []


@pytest.mark.usefixtures("other_file_system")
def test_memory_should_not_grow_with_the_file(root: Path, long_film: Path, checkpoint: Checkpoint) -> None:
    with watched_memory() as growth:
        DirectoryBackend(root).upload(long_film, "film.mp4", checkpoint, "video/mp4")
    assert growth.bytes <= 64 * MEBIBYTE
