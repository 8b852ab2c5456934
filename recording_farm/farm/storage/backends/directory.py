"""The backend for a directory, possibly on a network file system that several nodes share."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

from recording_farm.encoder.atomic_file import delete_drafts, sync, write_file
from recording_farm.farm.errors import NotFoundError
from recording_farm.farm.storage.backend import (
    CHECK_TEXT,
    Checkpoint,
    Part,
    StorageError,
    StoredObject,
    check_came_back,
    check_size,
    key_parts,
)
from recording_farm.farm.storage.backends.directory_parts import (
    Drafts,
    adopt,
    finish,
    has_parts,
    send,
    unfinished,
)
from recording_farm.farm.storage.backends.disk import disk_faults, link_or_copy
from recording_farm.farm.storage.backends.encrypted_file import is_encrypted
from recording_farm.farm.storage.backends.encrypted_parts import is_of_parts
from recording_farm.farm.storage.backends.stored_file import PlainFile, StoredFile
from recording_farm.farm.storage.parts import (
    UPLOAD_GONE,
    Data,
    PartRules,
    SentPart,
    Unfinished,
    check_part,
    in_order,
    size_of,
)


class DirectoryBackend:
    """The backend for a directory. It has no links: the farm serves these files itself."""

    def __init__(self, root: Path) -> None:
        """`root` is created with the first file."""
        self._root = root

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> StoredObject:  # noqa: ARG002 - a file in a directory has no type
        """See `StorageBackend`. On the same file system the file is hard-linked, not copied.

        So `source` must not be modified afterwards. If `source` is missing but the file is stored, an earlier
        attempt succeeded and died before it reported it.
        """
        with disk_faults(self._root):
            target = self._target(key)
            if source.exists() or not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                self._put(source, target, key)
                self._sync_directories(target.parent)
            with closing(self._found(key)) as file:
                size = file.size
        checkpoint.clear()
        return StoredObject(target.as_uri(), size)

    def takes_links_from(self, directory: Path) -> bool:
        """Whether `upload` hard-links files of a directory: it is on the same file system."""
        root = next((each for each in (self._root, *self._root.parents) if each.exists()), None)
        return root is not None and root.stat().st_dev == directory.stat().st_dev

    def fetch(self, key: str, target: Path) -> None:
        """See `StoreBackend`. `target` may be a hard link to the stored file and must not be modified."""
        with closing(self._found(key)) as file, disk_faults(target.parent):
            file.copy_to(target)

    def open(self, key: str) -> StoredFile:
        """Open a file for reading; the caller closes it.

        Raises NotFoundError as `path_of` does, StorageError when the file is not readable.
        """
        try:
            return self._open(self.path_of(key), key)
        except StorageError as error:
            if error.reason == "not_found":
                raise _no_file(key) from None
            raise

    def path_of(self, key: str) -> Path:
        """The path of a file. Raises NotFoundError, also for invalid keys."""
        try:
            path = self._target(key)
        except StorageError:
            path = None
        if path is None or path.is_symlink() or not path.is_file():
            raise _no_file(key)
        return path

    @property
    def part_rules(self) -> PartRules:
        """See `PartsBackend`.

        The file is made without copying it if the first part's size, less the offset of the second, is a
        multiple of 4096, on ext4 and xfs.
        """
        return PartRules(most=100_000)

    def begin_parts(self, key: str, content_type: str) -> dict[str, Any]:  # noqa: ARG002 - a file in a directory has no type
        """See `PartsBackend`."""
        with disk_faults(self._root):
            target = self._target(key)
            target.parent.mkdir(parents=True, exist_ok=True)
            begun = Drafts.create(target).begun
            self._sync_directories(target.parent)
        return begun

    def send_part(self, key: str, begun: dict[str, Any], part: Part, data: Data) -> dict[str, Any]:
        """See `PartsBackend`."""
        check_part(part, data)
        with disk_faults(self._root):
            return self._send(Drafts.of(self._target(key), begun), key, part, data)

    def finish_parts(self, key: str, begun: dict[str, Any], sent: Sequence[SentPart]) -> StoredObject:
        """See `PartsBackend`. Syncs each part when it comes, so little remains to be done here."""
        sent = in_order(sent)
        with disk_faults(self._root):
            target = self._target(key)
            drafts = Drafts.of(target, begun)
            try:
                self._finish(drafts, key, sent)
            except StorageError as error:
                if error.reason != UPLOAD_GONE or not self._was_finished(key, sent):
                    raise
            drafts.delete()
            self._sync_directories(target.parent)
            with closing(self._found(key)) as file:
                size = file.size
        if size != size_of(sent):
            raise StorageError("damaged", "the file was damaged in transit")
        return StoredObject(target.as_uri(), size)

    def abort_parts(self, key: str, begun: dict[str, Any]) -> None:
        """See `PartsBackend`."""
        with disk_faults(self._root):
            target = self._target(key)
            Drafts.of(target, begun).delete()
            self._remove_empty(target.parent)

    def adopt_parts(self, key: str, begun: dict[str, Any]) -> dict[str, Any]:
        """See `AdoptableParts`."""
        with disk_faults(self._root):
            target = self._target(key)
            adopted = adopt(Drafts.of(target, begun)).begun
            self._sync_directories(target.parent)
        return adopted

    def unfinished_parts(self, prefix: str) -> Iterator[Unfinished]:
        """See `UnfinishedParts`."""
        with disk_faults(self._root):
            for directory, _ in _walk(self._root / prefix.rpartition("/")[0]):
                for drafts in unfinished(directory):
                    key = drafts.target.relative_to(self._root).as_posix()
                    if key.startswith(prefix):
                        yield Unfinished(key, drafts.begun, drafts.began)

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:  # noqa: ARG002 - a directory has no links
        """See `StorageBackend`: None."""
        return None

    def delete(self, key: str) -> None:
        """See `StorageBackend`. Removes empty parent directories too, except for the root."""
        with disk_faults(self._root):
            target = self._target(key)
            target.unlink(missing_ok=True)
            delete_drafts(target)
            self._remove_empty(target.parent)

    def put_bytes(self, key: str, data: Data) -> None:
        """See `StoreBackend`."""
        with disk_faults(self._root):
            target = self._target(key, hidden=True)
            content = self._packed(data, key)
            try:
                self._write(target, content)
            except FileNotFoundError:  # the directory became empty meanwhile, and was removed
                self._write(target, content)

    def get_bytes(self, key: str, limit: int) -> bytes:
        """See `StoreBackend`."""
        with disk_faults(self._root), closing(self._open(self._target(key, hidden=True), key)) as file:
            check_size(file.size, limit)
            return b"".join(file.pieces(0, file.size))

    def list_keys(self, prefix: str) -> Iterator[str]:
        """See `StoreBackend`."""
        with disk_faults(self._root):
            for directory, names in _walk(self._root / prefix):
                # The others are drafts.
                for name in sorted(name for name in names if not name.startswith(".")):
                    yield (directory / name).relative_to(self._root).as_posix()

    def delete_many(self, keys: Iterable[str]) -> None:
        """See `StoreBackend`."""
        with disk_faults(self._root):
            for key in keys:
                target = self._target(key, hidden=True)
                target.unlink(missing_ok=True)
                self._remove_empty(target.parent)

    def delete_all(self, prefix: str) -> None:
        """See `StoreBackend`. Deletes drafts too."""
        with disk_faults(self._root):
            directory = self._target(prefix.removesuffix("/"), hidden=True)
            if directory.is_dir() and not directory.is_symlink():
                shutil.rmtree(directory)
                self._remove_empty(directory.parent)

    def check(self) -> None:
        """See `StorageBackend`."""
        file = self._root / f".recording-farm-check-{token_hex(8)}"
        with disk_faults(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            try:
                file.write_bytes(CHECK_TEXT)
                read = file.read_bytes()
            finally:
                file.unlink(missing_ok=True)
        check_came_back(read)

    def _open(self, path: Path, key: str) -> StoredFile:
        with disk_faults(path):
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError:
                raise StorageError("not_found", _no_file(key).message, lasting=True) from None
            try:
                return self._stored(file, key)
            except BaseException:
                file.close()
                raise

    def _write(self, target: Path, content: bytes) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, content)

    def _target(self, key: str, *, hidden: bool = False) -> Path:
        parts = key_parts(key)
        if not hidden and any(part.startswith(".") for part in parts):
            raise StorageError("bad_path", "file names must not begin with a dot", lasting=True)
        target = self._root.joinpath(*parts)
        if not target.parent.resolve().is_relative_to(self._root.resolve()):
            raise StorageError("bad_path", "a symbolic link points outside the directory", lasting=True)
        return target

    def _directories(self, directory: Path) -> list[Path]:
        """A directory and its parents, up to the root."""
        above = len(directory.relative_to(self._root).parts)
        return [directory, *directory.parents][: above + 1]

    def _sync_directories(self, directory: Path) -> None:
        for each in self._directories(directory):
            sync(each)

    def _remove_empty(self, directory: Path) -> None:
        """Remove a directory and its parents, except for the root, as far as they are empty."""
        for each in self._directories(directory)[:-1]:
            try:
                each.rmdir()
            except OSError:
                break  # it is not empty, or another node was faster

    def _was_finished(self, key: str, sent: Sequence[SentPart]) -> bool:
        """Whether an upload that is gone has become this file; its response was lost."""
        try:
            with closing(self.open(key)) as file:
                return has_parts(file, sent)
        except NotFoundError:
            return False

    def _found(self, key: str) -> StoredFile:
        try:
            return self.open(key)
        except NotFoundError as error:
            raise StorageError("not_found", error.message, lasting=True) from error

    def _put(self, source: Path, target: Path, key: str) -> None:  # noqa: ARG002 - for the encrypted subclass
        link_or_copy(source, target)

    def _packed(self, data: Data, key: str) -> bytes:  # noqa: ARG002 - for the encrypted subclass
        return bytes(data)

    def _send(self, drafts: Drafts, key: str, part: Part, data: Data) -> dict[str, Any]:  # noqa: ARG002 - for the encrypted subclass
        return send(drafts, part, data)

    def _finish(self, drafts: Drafts, key: str, sent: Sequence[SentPart]) -> None:  # noqa: ARG002 - for the encrypted subclass
        finish(drafts, sent)

    def _stored(self, file: BinaryIO, key: str) -> StoredFile:
        if is_encrypted(file) or is_of_parts(file):
            raise StorageError(
                "encrypted", f"{key} is encrypted; it can be read with FARM_STORE_ENCRYPTION=on", lasting=True
            )
        return PlainFile(file)


def _walk(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each directory in `top` with the names of its files; none if there is no `top`. Raises OSError."""

    def check(error: OSError) -> None:
        # Directories may be deleted meanwhile. With any other error, what is there is not known.
        if not isinstance(error, FileNotFoundError):
            raise error

    for directory, _, names in os.walk(top, onerror=check):
        yield Path(directory), names


def _no_file(key: str) -> NotFoundError:
    return NotFoundError(f"there is no file {key}; it may be deleted")
