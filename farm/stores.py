"""The store: the farm's own place for finished files."""

import errno
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from farm.errors import NotFound
from farm.storage.stored_file import PlainFile

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
"""What a file in the store may be called. None begins with a dot: those are copies that are not whole yet."""


class StoredFile(NamedTuple):
    """A file in the store: its name, and its size in bytes."""

    name: str
    size: int


class DirectoryStore:
    """A store in a directory: one directory per recording, named by its id.

    Several nodes may share the directory over a network file system.
    """

    def __init__(self, root: Path) -> None:
        """`root` is made when the first file comes."""
        self._root = root

    def put(self, recording_id: UUID | str, source: Path, name: str) -> StoredFile:
        """Move `source` into the store as `name`; it is there whole or not at all, also after a power cut.

        Putting a file again that has arrived already (the job died before it could say so) succeeds.
        Raises ValueError for a name that is not a plain file name, FileNotFoundError without a `source`.
        """
        target = self._path(recording_id, name)
        if not source.exists() and target.is_file():
            return StoredFile(name, target.stat().st_size)
        target.parent.mkdir(parents=True, exist_ok=True)
        _move(source, target)
        return StoredFile(name, target.stat().st_size)

    def path_of(self, recording_id: UUID | str, name: str) -> Path:
        """The path of a stored file.

        Raises NotFound, also for names and ids that could not be in the store.
        """
        try:
            path = self._path(recording_id, name)
        except ValueError:
            path = None
        if path is None or path.is_symlink() or not path.is_file():
            raise NotFound(f"recording {recording_id} has no file {name}; it may have been deleted")
        return path

    def open(self, recording_id: UUID | str, name: str) -> PlainFile:
        """A stored file, to be read; raises NotFound as `path_of` does."""
        return PlainFile(self.path_of(recording_id, name).open("rb", buffering=0))

    def delete(self, recording_id: UUID | str, name: str) -> None:
        """Delete a stored file; one that is not there is no error.

        Raises ValueError for a name that is not a plain file name.
        """
        path = self._path(recording_id, name)
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()

    def _path(self, recording_id: UUID | str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(
                "a file in the store has a plain name of letters, digits, dots, dashes, underscores"
            )
        return self._root / str(UUID(str(recording_id))) / name


def _move(source: Path, target: Path) -> None:
    """Rename; between file systems copy beside the target first, and rename the copy."""
    _sync(source)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        draft = target.with_name(f".{secrets.token_hex(8)}")
        try:
            shutil.copyfile(source, draft)
            _sync(draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        source.unlink()
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
