"""An RTMP server that admits nobody without a login, as Adobe's and Wowza's servers do (`authmod=adobe`).

A client connects three times: without a login, with its user name, and with the answer to a challenge. The
server closes each connection afterwards: it takes no streams.
"""

import hashlib
import socket
import struct
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast
from urllib.parse import parse_qs

_SALT, _OPAQUE = "c2FsdA==", "b3BhcXVl"
_HANDSHAKE = 1536
_SET_CHUNK_SIZE, _COMMAND = 1, 20


class LoginServer:
    """A running server; `admitted` has the name of each user who sent the right answer."""

    def __init__(self, port: int, user: str, password: str) -> None:
        """It listens at `port` of the loopback."""
        self.port = port
        self.admitted: list[str] = []
        self._user = user
        self._password = password

    def answer(self, app: str) -> str:
        """Why an application is refused; empty if the login in its query is right."""
        query = {name: values[0] for name, values in parse_qs(app.partition("?")[2]).items()}
        if "user" not in query:
            return "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : "
        if "response" not in query:
            asked = f"user={query['user']}&salt={_SALT}&challenge={_OPAQUE}&opaque={_OPAQUE}"
            return f"[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&{asked}"
        # parse_qs reads a plus as a space.
        challenge, response = query["challenge"], query["response"].replace(" ", "+")
        secret = _hash(self._user + _SALT + self._password)
        if query["user"] != self._user or response != _hash(secret + _OPAQUE + challenge):
            return "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed"
        self.admitted.append(query["user"])
        return ""


@contextmanager
def login_server(user: str, password: str) -> Iterator[LoginServer]:
    """Run a server for one user."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = LoginServer(listening.getsockname()[1], user, password)
        thread = threading.Thread(target=_accept, args=(listening, server))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listening: socket.socket, server: LoginServer) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        connection.settimeout(10)
        with suppress(OSError, EOFError):
            _serve(connection, server)


def _serve(connection: socket.socket, server: LoginServer) -> None:
    """Read the application that a client connects to, and refuse or admit it."""
    with connection, connection.makefile("rb") as stream:
        source = cast("BinaryIO", stream)
        hello = _read(source, 1 + _HANDSHAKE)
        connection.sendall(b"\x03" + bytes(_HANDSHAKE) + hello[1:])
        _read(source, _HANDSHAKE)
        refusal = server.answer(_app(_command(source)))
        if refusal:
            connection.sendall(_chunks(_text("_error") + _number(1) + b"\x05" + _refusal(refusal)))
            source.read(1)


def _command(source: BinaryIO) -> bytes:
    """The first command of a client."""
    size = 128
    while True:
        header = _read(source, 12)
        length, kind = int.from_bytes(header[4:7]), header[7]
        body = _read(source, min(length, size))
        while len(body) < length:
            _read(source, 1)
            body += _read(source, min(length - len(body), size))
        if kind == _COMMAND:
            return body
        if kind == _SET_CHUNK_SIZE:
            size = int.from_bytes(body)


def _app(command: bytes) -> str:
    at = command.index(b"\x00\x03app\x02") + 6
    length = int.from_bytes(command[at : at + 2])
    return command[at + 2 : at + 2 + length].decode()


def _read(source: BinaryIO, size: int) -> bytes:
    data = source.read(size) or b""
    if len(data) < size:
        raise EOFError
    return data


def _hash(text: str) -> str:
    return b64encode(hashlib.md5(text.encode(), usedforsecurity=False).digest()).decode()


def _text(text: str) -> bytes:
    return b"\x02" + struct.pack(">H", len(text)) + text.encode()


def _number(value: float) -> bytes:
    return b"\x00" + struct.pack(">d", value)


def _refusal(description: str) -> bytes:
    fields = {"level": "error", "code": "NetConnection.Connect.Rejected", "description": description}
    packed = b"".join(
        struct.pack(">H", len(name)) + name.encode() + _text(text) for name, text in fields.items()
    )
    return b"\x03" + packed + b"\x00\x00\x09"


def _chunks(body: bytes) -> bytes:
    header = b"\x03" + bytes(3) + len(body).to_bytes(3) + bytes([_COMMAND]) + bytes(4)
    return header + b"\xc3".join(body[at : at + 128] for at in range(0, len(body), 128))
