"""A way to a server that can be cut while something goes over it."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def way_until(port: int, is_last: Callable[[bytes], bool]) -> Iterator[int]:
    """Pass connections on to a port of this machine, until a client sends what `is_last`.

    That does not arrive any more; all connections end then, and there are no new ones. Yields the port to
    ask at.
    """
    ways: set[socket.socket] = set()

    class Way(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as there:
                ways.update((self.request, there))
                back = threading.Thread(target=self.pass_on, args=(there, self.request))
                back.start()
                self.pass_on(self.request, there, is_last)
                back.join()
                ways.difference_update((self.request, there))

        def pass_on(
            self, source: socket.socket, target: socket.socket, is_last: Callable[[bytes], bool] | None = None
        ) -> None:
            with suppress(OSError):
                while data := source.recv(1 << 16):
                    if is_last is not None and is_last(data):
                        cut()
                    target.sendall(data)
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def cut() -> None:
        server.shutdown()
        server.server_close()
        for way in list(ways):
            with suppress(OSError):
                way.shutdown(socket.SHUT_RDWR)

    with Server(("127.0.0.1", 0), Way) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            cut()
            thread.join(10)


class Server(socketserver.ThreadingTCPServer):
    """A server that does not wait for its threads."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 100
