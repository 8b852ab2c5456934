"""An SFTP server that takes a password, knows no atomic rename and keeps some names to itself.

OpenSSH checks passwords only as root or through PAM, so a test cannot have it do so.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.sftp import SFTP_FAILURE, SFTP_OK, SFTP_PERMISSION_DENIED

USERNAME = "films"
PASSWORD = "the right one"
FORBIDDEN = "forbidden"


class _Login(paramiko.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> int:
        right = (username, password) == (USERNAME, PASSWORD)
        return AUTH_SUCCESSFUL if right else AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return "password"

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        return OPEN_SUCCEEDED


class _OpenFile(paramiko.SFTPHandle):
    def __init__(self, file: Any) -> None:
        super().__init__()
        self.readfile = self.writefile = file


class Files(paramiko.SFTPServerInterface):
    """The files of a directory."""

    def __init__(self, server: paramiko.ServerInterface, root: Path) -> None:
        super().__init__(server)
        self._root = root

    def _at(self, path: str) -> Path:
        return self._root / self.canonicalize(path).lstrip("/")

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(self._at(path).stat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:  # noqa: ARG002
        if FORBIDDEN in path:
            return SFTP_PERMISSION_DENIED
        try:
            mode = "r+b" if flags & (os.O_WRONLY | os.O_RDWR) else "rb"
            return _OpenFile(os.fdopen(os.open(self._at(path), flags, 0o600), mode, buffering=0))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> int:  # noqa: ARG002
        self._at(path).mkdir()
        return SFTP_OK

    def remove(self, path: str) -> int:
        try:
            self._at(path).unlink()
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        return SFTP_OK

    def rename(self, oldpath: str, newpath: str) -> int:
        if self._at(newpath).exists():
            return SFTP_FAILURE
        self._at(oldpath).rename(self._at(newpath))
        return SFTP_OK


@contextmanager
def password_server(root: Path) -> Iterator[int]:
    """The port of a server of the files in `root`."""
    with files_server(Files, root) as port:
        yield port


@contextmanager
def files_server(files: type[Files], *arguments: Any) -> Iterator[int]:
    """The port of a server of such files, made with these arguments."""
    host_key = paramiko.ECDSAKey.generate()
    listener = socket.create_server(("127.0.0.1", 0))
    transports: list[paramiko.Transport] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(client)
            transport.add_server_key(host_key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, files, *arguments)
            transports.append(transport)
            with suppress(paramiko.SSHException, EOFError):
                transport.start_server(event=threading.Event(), server=_Login())

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        server.join(10)
        for transport in transports:
            transport.close()
