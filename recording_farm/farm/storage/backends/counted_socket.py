"""A socket for paramiko, which keeps whatever a server sends, with a limit on how much that can be.

paramiko reads a packet as long as the server says that it is (up to 4 GiB), joins a greeting without end, and
keeps data that nobody asked for, beyond the window that it gave the server.
"""

import errno
import socket
from typing import Any, Final

import paramiko

MAX_LOGIN: Final = 4 << 20
"""Bytes that a server may send until SFTP begins: greeting, keys, banner."""

MAX_PACKET: Final = 1 << 20
"""Bytes of a packet of SSH or SFTP. Servers send 256 KiB at most (RFC 4253, 6.1; OpenSSH)."""

MAX_UNREAD: Final = 32 << 20
"""Bytes that wait to be read: several windows."""


class CountedSocket:
    """A connected socket, as paramiko uses it."""

    def __init__(self, connection: socket.socket) -> None:
        """Limit what arrives to `MAX_LOGIN`, until `follow`."""
        self._socket = connection
        self._received = 0
        self._channel: paramiko.Channel | None = None
        self.is_exceeded = False
        """Whether the server has sent more than a limit."""

    def follow(self, channel: paramiko.Channel) -> None:
        """Limit what waits to be read in `channel` from now on."""
        self._channel = channel

    def check_packet(self, size: int) -> None:
        """Raise an error for a packet that is too large."""
        if size > MAX_PACKET:
            self._abort()

    def recv(self, size: int) -> bytes:
        """Receive some bytes."""
        data = self._socket.recv(size)
        self._received += len(data)
        if self._channel is None:
            is_exceeded = self._received > MAX_LOGIN
        else:
            unread = len(self._channel.in_buffer) + len(self._channel.in_stderr_buffer)
            is_exceeded = unread > MAX_UNREAD
        if is_exceeded:
            self._abort()
        return data

    def _abort(self) -> None:
        self.is_exceeded = True
        self._socket.close()
        raise ConnectionAbortedError(errno.ECONNABORTED, "the server sends more than it was asked for")

    def __getattr__(self, name: str) -> Any:
        """Everything else is the socket's."""
        return getattr(self._socket, name)
