import errno
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import randbytes
from threading import Thread

import pytest

from recording_farm.farm.storage.backend import Checkpoint, Part, StorageError
from recording_farm.farm.storage.backends import directory_parts as module
from recording_farm.farm.storage.backends.directory import DirectoryBackend
from recording_farm.farm.storage.backends.directory_parts import Drafts
from recording_farm.farm.storage.backends.encrypted_directory import EncryptedDirectoryBackend
from testkit.storage.parts import BLOCK, MEBIBYTE, parts_of_content, put_in_parts, send_all

KEY = "a/film.mp4"
SECRET = b"the farm's secret"
SIZES = (3 * BLOCK, MEBIBYTE + 7, 5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Not there yet."""
    return tmp_path / "store"


@pytest.fixture(params=["plain", "encrypted"])
def films(request: pytest.FixtureRequest, root: Path) -> DirectoryBackend:
    return backend_at(root, request.param)


@pytest.fixture
def plain(root: Path) -> DirectoryBackend:
    return DirectoryBackend(root)


def backend_at(root: Path, kind: str = "plain") -> DirectoryBackend:
    return DirectoryBackend(root) if kind == "plain" else EncryptedDirectoryBackend(root, SECRET)


@pytest.fixture(scope="module")
def content() -> bytes:
    return randbytes(3 * MEBIBYTE)


@pytest.fixture
def no_insertion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without it."""
    monkeypatch.setattr(module, "insert_in_front", lambda *_: False)


def content_of(films: DirectoryBackend, key: str = KEY) -> bytes:
    with closing(films.open(key)) as file:
        return b"".join(file.pieces(0, file.size))


def names(directory: Path) -> Iterator[str]:
    return (path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    "sizes",
    [
        SIZES,
        (3 * BLOCK,),
        (3 * MEBIBYTE,),
        (BLOCK + 1, MEBIBYTE),  # the file system cannot insert this
        (0, MEBIBYTE),
    ],
)
def test_parts_should_make_the_file_in_the_order_of_their_numbers(
    root: Path, films: DirectoryBackend, content: bytes, sizes: tuple[int, ...]
) -> None:
    begun = films.begin_parts(KEY, "video/mp4")
    sent = send_all(films, KEY, begun, parts_of_content(content, sizes))
    assert all(name.startswith(".") for name in names(root / "a"))
    for _ in range(2):  # the answer to the first was lost
        placed = films.finish_parts(KEY, begun, sent)
        assert (placed.location, placed.size) == ((root / KEY).as_uri(), len(content))
    assert content_of(films) == content
    assert list(names(root / "a")) == ["film.mp4"]


@pytest.mark.usefixtures("no_insertion")
def test_file_should_be_copied_where_nothing_can_be_inserted(
    root: Path, plain: DirectoryBackend, content: bytes
) -> None:
    put_in_parts(plain, KEY, content, SIZES)
    assert content_of(plain) == content
    assert list(names(root / "a")) == ["film.mp4"]


def test_first_part_should_be_inserted_without_copying_the_rest(
    root: Path, plain: DirectoryBackend, content: bytes
) -> None:
    begun = plain.begin_parts(KEY, "video/mp4")
    sent = send_all(plain, KEY, begun, parts_of_content(content, SIZES))
    draft = Drafts.of(root / KEY, begun).body.stat()
    plain.finish_parts(KEY, begun, sent)
    assert (root / KEY).stat().st_ino == draft.st_ino


def test_offsets_may_count_the_beginning_of_the_body_that_is_held_back(
    plain: DirectoryBackend, content: bytes
) -> None:
    begun = plain.begin_parts(KEY, "video/mp4")
    parts = parts_of_content(content, SIZES)
    parts = [(replace(part, offset=part.offset + 2 * BLOCK), data) for part, data in parts]
    plain.finish_parts(KEY, begun, send_all(plain, KEY, begun, parts))
    assert content_of(plain) == content


def test_body_alone_should_be_a_file(films: DirectoryBackend) -> None:
    begun = films.begin_parts(KEY, "video/mp4")
    sent = send_all(films, KEY, begun, [(Part(2, 0, 4), b"body"), (Part(1, 0, 4), b"none")])
    films.finish_parts(KEY, begun, sent[1:])
    assert content_of(films) == b"body"


def test_part_that_is_sent_again_should_replace_the_first(films: DirectoryBackend, content: bytes) -> None:
    begun = films.begin_parts(KEY, "video/mp4")
    parts = parts_of_content(content, SIZES)
    for part, data in parts:
        films.send_part(KEY, begun, part, randbytes(len(data)))
    # This one is in no list.
    films.send_part(KEY, begun, Part(50, 9 * MEBIBYTE, 4), b"none")
    films.finish_parts(KEY, begun, send_all(films, KEY, begun, parts))
    assert content_of(films) == content


@pytest.mark.parametrize("index", [0, 1])
def test_part_that_somebody_else_replaced_should_make_no_file(
    plain: DirectoryBackend, root: Path, content: bytes, index: int
) -> None:
    begun = plain.begin_parts(KEY, "video/mp4")
    parts = parts_of_content(content, SIZES)
    sent = send_all(plain, KEY, begun, parts)
    part, data = parts[index]
    plain.send_part(KEY, begun, part, randbytes(len(data)))
    with pytest.raises(StorageError) as raised:
        plain.finish_parts(KEY, begun, sent)
    assert raised.value.reason == "upload_gone"
    assert not (root / KEY).exists()
    # The same bytes again: only a note of the other ones remains.
    plain.send_part(KEY, begun, part, data)
    plain.finish_parts(KEY, begun, sent)
    assert content_of(plain) == content


def test_note_of_a_write_that_never_came_should_not_spoil_the_file(
    plain: DirectoryBackend, root: Path, content: bytes
) -> None:
    begun = plain.begin_parts(KEY, "video/mp4")
    sent = send_all(plain, KEY, begun, parts_of_content(content, SIZES))
    with Drafts.of(root / KEY, begun).marks.open("r+b") as marks:
        marks.seek(16 * sent[0].part.number)
        marks.write(randbytes(16))
    plain.finish_parts(KEY, begun, sent)
    assert content_of(plain) == content


def test_upload_that_is_gone_should_be_said(films: DirectoryBackend, root: Path, film: Path) -> None:
    films.upload(film, KEY, Checkpoint(root / "checkpoint"), "video/mp4")
    begun = films.begin_parts(KEY, "video/mp4")
    parts = [(Part(1, 0, 4), b"head"), (Part(2, 0, 4), b"body")]
    sent = send_all(films, KEY, begun, parts)
    # An ordinary upload of the same file drops it, and so does this.
    films.upload(film, KEY, Checkpoint(root / "checkpoint"), "video/mp4")
    for _ in range(2):
        films.abort_parts(KEY, begun)
    for act in (lambda: films.send_part(KEY, begun, *parts[1]), lambda: films.finish_parts(KEY, begun, sent)):
        with pytest.raises(StorageError) as raised:
            act()
        assert raised.value.reason == "upload_gone"
    assert content_of(films) == film.read_bytes()


def test_finish_without_room_on_the_disk_should_be_repeatable(
    plain: DirectoryBackend, root: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = plain.begin_parts(KEY, "video/mp4")
    sent = send_all(plain, KEY, begun, parts_of_content(content, (BLOCK + 1, MEBIBYTE)))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(module, "copy_range", fail)
        with pytest.raises(StorageError, match="disk is full"):
            plain.finish_parts(KEY, begun, sent)
    assert not (root / KEY).exists()
    plain.finish_parts(KEY, begun, sent)
    assert content_of(plain) == content


@pytest.mark.parametrize("clean_up", ["abort", "upload"])
def test_crash_at_the_end_should_leave_what_is_cleaned_up(
    plain: DirectoryBackend, root: Path, content: bytes, film: Path, clean_up: str
) -> None:
    begun = plain.begin_parts(KEY, "video/mp4")
    sent = send_all(plain, KEY, begun, parts_of_content(content, SIZES))
    # What a process leaves that is killed while it inserts the first part.
    drafts = Drafts.of(root / KEY, begun)
    drafts.body.rename(drafts.end)
    with pytest.raises(StorageError) as raised:
        plain.finish_parts(KEY, begun, sent)
    assert raised.value.reason == "upload_gone"
    assert [each.begun for each in plain.unfinished_parts("")] == [begun]
    if clean_up == "abort":
        plain.abort_parts(KEY, begun)
        assert list(names(root)) == []
    else:
        plain.upload(film, KEY, Checkpoint(root / "checkpoint"), "video/mp4")
        assert content_of(plain) == film.read_bytes()
        assert list(names(root / "a")) == ["film.mp4"]


def test_gap_between_parts_should_be_refused(plain: DirectoryBackend) -> None:
    begun = plain.begin_parts(KEY, "video/mp4")
    sent = send_all(plain, KEY, begun, [(Part(2, 0, 4), b"body"), (Part(3, 5, 4), b"tail")])
    with pytest.raises(ValueError, match="part 4 of 5 bytes"):
        plain.send_part(KEY, begun, Part(4, 9, 5), b"size")
    with pytest.raises(ValueError, match="part 3"):
        plain.finish_parts(KEY, begun, sent)


def test_unfinished_uploads_should_be_found_and_dropped(films: DirectoryBackend, root: Path) -> None:
    assert list(films.unfinished_parts("")) == []
    for key in ("a/1.mp4", "a/2.mp4", "b/1.mp4"):
        films.send_part(key, films.begin_parts(key, "video/mp4"), Part(2, 0, 4), b"body")
    found = list(films.unfinished_parts("a/"))
    assert sorted(each.key for each in found) == ["a/1.mp4", "a/2.mp4"]
    assert [each.key for each in films.unfinished_parts("a/2")] == ["a/2.mp4"]
    for each in found:
        assert abs(each.began - datetime.now(UTC)) < timedelta(minutes=1)
        films.abort_parts(each.key, each.begun)
    assert [each.key for each in films.unfinished_parts("")] == ["b/1.mp4"]
    films.delete("b/1.mp4")
    assert list(names(root)) == []


def test_writer_that_waits_for_the_end_should_not_touch_the_file(
    films: DirectoryBackend, root: Path, content: bytes
) -> None:
    begun = films.begin_parts(KEY, "video/mp4")
    sent = send_all(films, KEY, begun, parts_of_content(content, SIZES))
    late = Part(sent[0].part.number, 0, 4)
    reasons: list[str] = []

    def write() -> None:
        try:
            films.send_part(KEY, begun, late, b"late")
        except StorageError as error:
            reasons.append(error.reason)

    with Drafts.of(root / KEY, begun).locked() as body:
        writer = Thread(target=write)
        writer.start()
        os.fsync(body)
        # What `finish_parts` does, while the writer waits for the lock or has not come yet.
        Drafts.of(root / KEY, begun).body.rename(root / KEY)
    writer.join(60)
    assert reasons == ["upload_gone"]
    assert b"late" not in (root / KEY).read_bytes()[:4]


@pytest.mark.parametrize("key", ["../film.mp4", ".hidden", "a/.parts/x"])
def test_key_that_could_lead_elsewhere_should_be_refused(films: DirectoryBackend, key: str) -> None:
    with pytest.raises(StorageError) as raised:
        films.begin_parts(key, "video/mp4")
    assert raised.value.reason == "bad_path"
    with pytest.raises(ValueError, match="token"):
        films.abort_parts(KEY, {"token": "../../x"})
