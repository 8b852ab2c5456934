"""A server for the tests' own pages, on a free port of the loopback."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FIDELITY_PAGE = Path(__file__).parent / "fidelity" / "page.html"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serve_pages(directory: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve the files of `directory`; yields the URL it is at, without a slash at the end."""
    server = ThreadingHTTPServer((host, 0), partial(_QuietHandler, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, name="pages")
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
