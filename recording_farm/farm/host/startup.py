"""Checks that a process makes before it starts: can it write its data directory, can it open its port?"""

import errno
import os
import socket
import tempfile
from pathlib import Path

from recording_farm.farm.errors import SettingsError


def require_writable_directory(directory: Path, setting: str) -> None:
    """Create a directory, if there is none, and write to it. Raises SettingsError that names `setting`."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        raise SettingsError(
            f"{setting}: cannot write to {directory}: {os.strerror(error.errno or errno.EIO)}"
        ) from None


def require_free_port(prefix: str, host: str, port: int) -> None:
    """Check that a server may listen at `host` and `port`, as `PREFIX_HOST` and `PREFIX_PORT` have them.

    Raises SettingsError that names the setting.
    """
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise SettingsError(f"{prefix}_HOST: cannot resolve {host}: {error.strerror}") from None
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as server:
            # As servers do, so that connections of the last one, in TIME_WAIT, are no obstacle.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                server.bind(address)
            except OSError as error:
                raise SettingsError(_bind_problem(error, prefix, host, port)) from None


def _bind_problem(error: OSError, prefix: str, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"{prefix}_PORT: port {port} of {host} is in use; "
                f"stop the program that listens there, or set another {prefix}_PORT"
            )
        case errno.EACCES:
            return f"{prefix}_PORT: this user may not open port {port}; set one above 1023"
        case errno.EADDRNOTAVAIL:
            return f"{prefix}_HOST: {host} is not an address of this machine"
        case _:
            return f"{prefix}_PORT: cannot listen on port {port} of {host}: {error.strerror}"
