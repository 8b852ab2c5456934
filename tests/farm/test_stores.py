import errno
import os
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from farm.errors import NotFound
from farm.stores import DirectoryStore, StoredFile

ID = uuid4()
HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "../a.mp4",
    "a/b.mp4",
    "/etc/passwd",
    "a\\b.mp4",
    ".hidden",
    "-rf",
    "a\n.mp4",
    "a\x00.mp4",
    "a.mp4\n",
    "x" * 201,
    "é.mp4",
]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "cut.mp4"
    path.write_bytes(b"video")
    return path


def test_file_should_move_into_the_store(store: DirectoryStore, source: Path) -> None:
    assert store.put(ID, source, "a.mp4") == StoredFile("a.mp4", 5)
    assert not source.exists()
    path = store.path_of(ID, "a.mp4")
    assert path.read_bytes() == b"video"
    assert [one.name for one in path.parent.iterdir()] == ["a.mp4"]


def test_file_should_move_between_file_systems(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm") / f"farm-test-{uuid4()}"  # a file system of its own
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm and the temporary directory are one file system")
    elsewhere.write_bytes(b"video")
    try:
        store = DirectoryStore(tmp_path / "store")
        assert store.put(ID, elsewhere, "a.mp4").size == 5
        assert not elsewhere.exists()
        path = store.path_of(ID, "a.mp4")
        assert [one.name for one in path.parent.iterdir()] == ["a.mp4"]
    finally:
        elsewhere.unlink(missing_ok=True)


def test_copy_that_fails_should_leave_source_and_nothing_half(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: Path, target: Path) -> None:
        target.write_bytes(b"vi")
        raise OSError(errno.ENOSPC, "no space left on device")

    def other_file_system(_self: Path, _target: Path) -> None:
        raise OSError(errno.EXDEV, "cross-device link")

    monkeypatch.setattr("farm.stores.shutil.copyfile", full)
    monkeypatch.setattr(Path, "replace", other_file_system)
    with pytest.raises(OSError, match="no space left"):
        DirectoryStore(tmp_path / "store").put(ID, source, "a.mp4")
    assert source.read_bytes() == b"video"
    assert list((tmp_path / "store" / str(ID)).iterdir()) == []


def test_putting_again_after_a_crash_should_succeed(store: DirectoryStore, source: Path) -> None:
    first = store.put(ID, source, "a.mp4")
    assert store.put(ID, source, "a.mp4") == first
    with pytest.raises(FileNotFoundError):
        store.put(ID, source, "b.mp4")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_name_should_be_refused(
    store: DirectoryStore, source: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ValueError, match="plain name"):
        store.put(ID, source, name)
    with pytest.raises(ValueError, match="plain name"):
        store.delete(ID, name)
    with pytest.raises(NotFound):
        store.path_of(ID, name)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.mp4"]


@pytest.mark.parametrize("recording_id", ["..", "", "../other", "x" * 36])
def test_hostile_recording_id_should_be_refused(
    store: DirectoryStore, source: Path, recording_id: str
) -> None:
    with pytest.raises(ValueError, match="badly formed"):
        store.put(recording_id, source, "a.mp4")
    with pytest.raises(NotFound):
        store.path_of(recording_id, "a.mp4")


def test_symbolic_link_in_the_store_should_not_be_followed(store: DirectoryStore, source: Path) -> None:
    store.put(ID, source, "a.mp4")
    (store.path_of(ID, "a.mp4").parent / "b.mp4").symlink_to("/etc/passwd")
    with pytest.raises(NotFound):
        store.path_of(ID, "b.mp4")


def test_deleted_file_should_be_gone_with_its_directory(
    store: DirectoryStore, source: Path, tmp_path: Path
) -> None:
    store.put(ID, source, "a.mp4")
    store.delete(ID, "a.mp4")
    store.delete(ID, "a.mp4")
    with pytest.raises(NotFound):
        store.path_of(ID, "a.mp4")
    assert list((tmp_path / "store").iterdir()) == []


def test_stored_file_should_keep_its_mode(store: DirectoryStore, source: Path) -> None:
    source.chmod(0o640)
    store.put(ID, source, "a.mp4")
    assert stat.S_IMODE(store.path_of(ID, "a.mp4").stat().st_mode) == 0o640
