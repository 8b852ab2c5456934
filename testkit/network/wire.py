"""A way to a server that can be cut, fall silent, or change a byte."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_READ_BYTES = 64 << 10


class Wire:
    """Listens on `port` and passes everything on to `target_port`, both of this machine."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._ends: set[socket.socket] = set()
        self.mend()

    def mend(self) -> None:
        """Let everything pass from now on, and count the clients' bytes anew."""
        with self._lock:
            self.passed = 0
            self._cut_after: int | None = None
            self._silent_after: int | None = None
            self._damage_at: int | None = None
            self._is_last: Callable[[bytes], bool] = lambda _: False
            self._is_severed = False
            self.answered = 0
            self._cut_answers_after: int | None = None
            self._silence_answers_after: int | None = None
            self._pause = 0.0

    def cut_after(self, count: int) -> None:
        """Close all connections, and each new one, as soon as clients have sent so many bytes."""
        self._cut_after = count

    def cut_before(self, is_last: Callable[[bytes], bool]) -> None:
        """Close all connections, and each new one, once a client sends what `is_last`; it does not arrive."""
        self._is_last = is_last

    def silent_after(self, count: int) -> None:
        """Read nothing more, but keep connections open, as soon as clients have sent so many bytes."""
        self._silent_after = count

    def damage_at(self, offset: int) -> None:
        """Change the byte at this offset of all that clients send."""
        self._damage_at = offset

    def cut_answers_after(self, count: int) -> None:
        """Close all connections as soon as the server has sent so many bytes."""
        self._cut_answers_after = count

    def silence_answers_after(self, count: int) -> None:
        """Pass nothing more on, but keep connections open, as soon as the server has sent so many bytes."""
        self._silence_answers_after = count

    def slow_down(self, seconds: float) -> None:
        """Rest so long after each 64 KiB."""
        self._pause = seconds

    def run(self) -> None:
        """Accept connections until `close`."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut():
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target_port))
            with self._lock:
                self._ends |= {client, server}
            _in_background(self._pass, client, server, self._changed)
            _in_background(self._pass, server, client, self._answer)

    def close(self) -> None:
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()

    def _changed(self, data: bytes) -> bytes:
        """What of the client's bytes goes on to the server."""
        with self._lock:
            begin, self.passed = self.passed, self.passed + len(data)
            if self._damage_at is not None and begin <= self._damage_at < self.passed:
                at = self._damage_at - begin
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            self._is_severed = self._is_severed or self._is_last(data)
        if self._is_cut():
            self._hang_up()
        return data

    def _is_cut(self) -> bool:
        return self._is_severed or (self._cut_after is not None and self.passed >= self._cut_after)

    def _answer(self, data: bytes) -> bytes:
        """What of the server's bytes goes on to the client."""
        with self._lock:
            self.answered += len(data)
        if self._cut_answers_after is not None and self.answered >= self._cut_answers_after:
            self._hang_up()
        if self._silence_answers_after is not None and self.answered >= self._silence_answers_after:
            self._closed.wait()
        return data

    def _wait_while_silent(self) -> None:
        if self._silent_after is not None and self.passed >= self._silent_after:
            self._closed.wait()

    def _pass(self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with suppress(OSError):
            self._wait_while_silent()
            while data := source.recv(_READ_BYTES):
                target.sendall(change(data))
                self._closed.wait(self._pause)
                self._wait_while_silent()
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _hang_up(self) -> None:
        with self._lock:
            ends, self._ends = self._ends, set()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A wire to a port of this machine."""
    wire = Wire(port)
    runner = _in_background(wire.run)
    try:
        yield wire
    finally:
        wire.close()
        runner.join(10)


def _in_background(act: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=act, args=arguments, daemon=True)
    thread.start()
    return thread
