"""A directory, maybe on a network file system that several nodes share."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Final

from farm.errors import NotFound
from farm.storage.place import CHECK_TEXT, Checkpoint, Placed, StorageError, check_came_back, key_parts

_NO_LINKS: Final = {
    errno.EXDEV,
    errno.EPERM,
    errno.EMLINK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
}
"""A file cannot get a second name there: another file system, or one that knows no links."""

_REASONS: Final = {
    errno.ENOSPC: ("full", "the disk is full", False),
    errno.EDQUOT: ("full", "the disk's quota is used up", False),
    errno.EACCES: ("no_permission", "the farm may not write there", True),
    errno.EPERM: ("no_permission", "the farm may not write there", True),
    errno.EROFS: ("no_permission", "the disk is read-only", True),
    errno.ENOTDIR: ("no_bucket", "a part of the path is no directory", True),
    errno.ENAMETOOLONG: ("bad_path", "the path is too long", True),
    errno.ETIMEDOUT: ("timed_out", "the disk did not answer in time", False),
}


class DirectoryPlace:
    """A directory as a place for files. It gives no links: the farm serves these files itself."""

    def __init__(self, root: Path) -> None:
        """`root` is made when the first file comes."""
        self._root = root

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> Placed:  # noqa: ARG002 - a file in a directory has no type
        """See `Place`. On one file system the file gets a second name and no byte is copied.

        So `source` must not be written to any more. Without a `source` it succeeds if the file is there
        already: the job died before it could say so.
        """
        with self._explained():
            target = self._target(key)
            if source.exists() or not target.is_file():
                _sync(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                _put(source, target)
                self._sync_directories(target.parent)
            size = target.stat().st_size
        checkpoint.clear()
        return Placed(target.as_uri(), size)

    def path_of(self, key: str) -> Path:
        """The path of a file. Raises NotFound, also for keys that could not be there."""
        try:
            path = self._target(key)
        except StorageError:
            path = None
        if path is None or path.is_symlink() or not path.is_file():
            raise NotFound(f"there is no file {key}; it may have been deleted")
        return path

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:  # noqa: ARG002 - there is none
        """See `Place`: None."""
        return None

    def delete(self, key: str) -> None:
        """See `Place`. Directories that are empty then go too, but for the root."""
        with self._explained():
            target = self._target(key)
            target.unlink(missing_ok=True)
            for directory in self._directories(target.parent)[:-1]:
                try:
                    directory.rmdir()
                except OSError:
                    break  # something else is in it, or another node was faster

    def check(self) -> None:
        """See `Place`."""
        file = self._root / f".recording-farm-check-{token_hex(8)}"
        with self._explained():
            self._root.mkdir(parents=True, exist_ok=True)
            try:
                file.write_bytes(CHECK_TEXT)
                read = file.read_bytes()
            finally:
                file.unlink(missing_ok=True)
        check_came_back(read)

    def _target(self, key: str) -> Path:
        parts = key_parts(key)
        if any(part.startswith(".") for part in parts):
            raise StorageError("bad_path", "names that begin with a dot are not for files", lasting=True)
        target = self._root.joinpath(*parts)
        if not target.parent.resolve().is_relative_to(self._root.resolve()):
            raise StorageError("bad_path", "a symbolic link leads out of the directory", lasting=True)
        return target

    def _directories(self, directory: Path) -> list[Path]:
        """A directory and those above it, up to the root."""
        above = len(directory.relative_to(self._root).parts)
        return [directory, *directory.parents][: above + 1]

    def _sync_directories(self, directory: Path) -> None:
        for each in self._directories(directory):
            _sync(each)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what went wrong in a sentence."""
        try:
            yield
        except OSError as error:
            reason, text, lasting = _REASONS.get(
                error.errno or 0, ("failed", f"the disk failed: {error.strerror}", False)
            )
            raise StorageError(reason, f"{self._root}: {text}", lasting=lasting) from error


def _put(source: Path, target: Path) -> None:
    """Give `source` the second name `target`, or put a copy there; whatever was there is replaced at once."""
    draft = target.with_name(f".{token_hex(8)}.part")
    try:
        try:
            os.link(source, draft)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _copy(source, draft)
        draft.replace(target)
    finally:
        # It is still there after a failure, and also if both names were the same file's already.
        draft.unlink(missing_ok=True)


def _copy(source: Path, draft: Path) -> None:
    shutil.copyfile(source, draft)
    _sync(draft)
    if _digest(draft) != _digest(source):
        raise StorageError("damaged", "the file did not arrive as it was sent")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
