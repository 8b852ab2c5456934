"""A server whose answers never end."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def endless_server(head: bytes, host: str = "127.0.0.1") -> Iterator[str]:
    """Answer each connection that sends something with `head`, then `a` after `a`; yields `host:port`."""
    over = threading.Event()
    with socket.create_server((host, 0)) as server:
        server.settimeout(0.2)

        def answer(client: socket.socket) -> None:
            with client:
                try:
                    client.settimeout(5)
                    client.recv(65536)
                    client.sendall(head)
                    while not over.is_set():
                        client.sendall(b"a" * (1 << 20))
                except OSError:
                    pass  # the client has hung up, as it should

        def serve() -> None:
            with ThreadPoolExecutor(16) as pool:
                while not over.is_set():
                    try:
                        pool.submit(answer, server.accept()[0])
                    except TimeoutError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"{host}:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()
