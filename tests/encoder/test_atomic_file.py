"""Files are written whole or not at all: by processes that are killed, on full disks, by several at once."""

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from recording_farm.encoder import atomic_file as module
from recording_farm.encoder.atomic_file import atomic_file, delete_drafts, write_file
from testkit.machine.disks import fill, small_disk

MEBIBYTE = 1 << 20


@contextmanager
def masked(umask: int) -> Iterator[None]:
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def python(script: str, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs `script`, `target` being `file` there; it is killed in the end."""
    head = "import sys, pathlib\n"
    head += "from recording_farm.encoder.atomic_file import *\ntarget = pathlib.Path(sys.argv[1])\n"
    command = [sys.executable, "-c", head + script, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("content", "written"), [("größer\n", "größer\n".encode()), (b"\0\r\n", b"\0\r\n")])
def test_file_should_be_replaced_and_nothing_be_left_beside_it(
    tmp_path: Path, content: str | bytes, written: bytes
) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    write_file(file, content)
    assert file.read_bytes() == written
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("mode", "seen"), [(0o666, 0o644), (0o600, 0o600), (0o755, 0o755)])
def test_mode_should_be_what_was_asked_for_less_the_umask(tmp_path: Path, mode: int, seen: int) -> None:
    file = tmp_path / "file"
    file.touch(0o640)
    with masked(0o022):
        write_file(file, "", mode=mode)
    assert stat.S_IMODE(file.stat().st_mode) == seen


def test_file_should_have_the_usual_mode_by_default(tmp_path: Path) -> None:
    with masked(0o027):
        write_file(tmp_path / "file", "")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_file_that_is_there_should_stay_without_replace(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in ("first", "second"):
        write_file(file, content, replace=False)
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]


def test_several_writers_should_not_get_in_each_others_way(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: write_file(file, f"{number % 10}" * 10_000), range(200)))
    assert set(file.read_text()) in [{str(digit)} for digit in range(10)]
    assert list(tmp_path.iterdir()) == [file]


def test_reader_should_find_a_whole_file_at_any_moment_also_when_the_writer_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_file(file, b"a" * MEBIBYTE)
    script = "while True:\n for piece in (b'b', b'c'): write_file(target, piece * (1 << 20), durable=False)"
    with python(script, file) as writer:
        seen = set[bytes]()
        deadline = time.monotonic() + 20
        while not seen >= {b"b", b"c"}:
            assert time.monotonic() < deadline
            content = file.read_bytes()
            seen.add(content[:1])
            assert content == content[:1] * MEBIBYTE
        writer.kill()
        writer.wait()
    content = file.read_bytes()
    assert content == content[:1] * MEBIBYTE


def test_killed_block_should_leave_the_old_content_and_the_next_one_remove_its_draft(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / ".other.part"
    file.write_text("old")
    other.touch()
    script = (
        "with atomic_file(target) as draft:\n draft.write_text('half')\n print(flush=True)\n sys.stdin.read()"
    )
    with python(script, file) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"\n"
        writer.kill()
        writer.wait()
    assert file.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3
    with atomic_file(file) as draft:
        assert not draft.exists()
        draft.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert set(tmp_path.iterdir()) == {file, other}


def test_drafts_of_other_files_should_be_left_alone(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "other") as draft:
        draft.touch()
        delete_drafts(tmp_path / "file")
        assert draft.exists()
        delete_drafts(tmp_path / "other")
        assert not draft.exists()
        draft.touch()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_error_in_the_block_should_leave_the_old_content(tmp_path: Path, error: BaseException) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def write() -> None:
        with atomic_file(file) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_full_disk_should_leave_the_old_content(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2):
        file, ballast = tmp_path / "disk" / "file", tmp_path / "disk" / "ballast"
        file.write_text("old")
        fill(file.parent)
        with pytest.raises(OSError, match="No space left") as told:
            write_file(file, "new" * MEBIBYTE)
        assert told.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space left"), atomic_file(file) as draft:
            draft.write_text("new" * MEBIBYTE)
        assert file.read_text() == "old"
        assert set(file.parent.iterdir()) == {file, ballast}


def test_target_that_cannot_be_replaced_should_be_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    (file / "full").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_file(file, "new")
    with pytest.raises(IsADirectoryError), atomic_file(file) as draft:
        draft.touch()
    assert list(tmp_path.iterdir()) == [file]


def test_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    file = tmp_path / ("ü" * 127)
    write_file(file, "new")
    with atomic_file(file) as draft:
        draft.write_text("newer")
    assert file.read_text() == "newer"


def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced from now on, by the names that it has then."""
    names = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).suffix or "directory")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return names


def test_file_should_be_on_the_disk_before_it_has_its_name_and_then_its_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = synced(monkeypatch)
    (tmp_path / "place").mkdir()
    file = tmp_path / "place" / "file.json"
    write_file(file, "new")
    with atomic_file(file) as draft:
        draft.touch()
    assert names == [".part", "directory"] * 2


def test_file_that_need_not_last_should_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = synced(monkeypatch)
    write_file(tmp_path / "file", "new", durable=False)
    assert (tmp_path / "file").read_text() == "new"
    assert names == []


@pytest.mark.parametrize(("number", "is_error"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_directory_that_cannot_be_synced_should_be_no_error_unless_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_error: bool
) -> None:
    def refuse(path: Path) -> None:
        assert path == tmp_path
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "sync", refuse)
    if is_error:
        with pytest.raises(OSError, match=os.strerror(number)):
            write_file(tmp_path / "file", "new")
    else:
        write_file(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
