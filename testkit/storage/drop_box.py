"""An SFTP server into which files may be put, and from which nothing may be taken."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
from paramiko.sftp import SFTP_OK, SFTP_OP_UNSUPPORTED, SFTP_PERMISSION_DENIED

from testkit.storage.password_server import Files, files_server

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(frozen=True)
class DropBox:
    """What may be done there besides writing. Of each file only the first `keeps` bytes are kept."""

    stat: bool = True
    rename: bool = True
    posix_rename: bool = True
    remove: bool = True
    mkdir: bool = True
    keeps: int | None = None


class _Written(paramiko.SFTPHandle):
    """A file that is open only while something is written: a connection that is cut may never close it."""

    def __init__(self, path: Path, keeps: int | None) -> None:
        super().__init__()
        self._path = path
        self._keeps = keeps

    def write(self, offset: int, data: "Buffer") -> int:
        if self._keeps is None or offset < self._keeps:
            with self._path.open("r+b") as file:
                file.seek(offset)
                file.write(data)
        return SFTP_OK


class _Box(Files):
    def __init__(self, server: paramiko.ServerInterface, root: Path, box: DropBox) -> None:
        super().__init__(server, root)
        self._box = box

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        return super().stat(path) if self._box.stat else SFTP_PERMISSION_DENIED

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:  # noqa: ARG002
        if flags & os.O_ACCMODE != os.O_WRONLY:
            return SFTP_PERMISSION_DENIED
        try:
            os.close(os.open(self._at(path), flags, 0o600))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        return _Written(self._at(path), self._box.keeps)

    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        return super().mkdir(path, attr) if self._box.mkdir else SFTP_PERMISSION_DENIED

    def remove(self, path: str) -> int:
        return super().remove(path) if self._box.remove else SFTP_PERMISSION_DENIED

    def rename(self, oldpath: str, newpath: str) -> int:
        return super().rename(oldpath, newpath) if self._box.rename else SFTP_PERMISSION_DENIED

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        return self.rename(oldpath, newpath) if self._box.posix_rename else SFTP_OP_UNSUPPORTED


@contextmanager
def drop_box(root: Path, box: DropBox) -> Iterator[int]:
    """The port of a server whose files are in `root`."""
    with files_server(_Box, root, box) as port:
        yield port
