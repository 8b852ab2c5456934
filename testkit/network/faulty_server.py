"""A way to an HTTP server that answers some requests with an error of its own."""

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Fault = Callable[[int], tuple[int, str] | None]
"""What to answer the n-th request (from 1) with: a status and S3's code for it; None passes it on."""


Decide = Callable[[int, str, str, Mapping[str, str]], tuple[int, str] | None]
"""The same by number, method, path with query, and headers."""


@contextmanager
def faulty_server(port: int, fault: Fault) -> Iterator[int]:
    """Pass requests on to a port of this machine, but for those with a `fault`; yields the port to ask at."""
    with _between(port, lambda number, _method, _path, _headers: fault(number)) as between:
        yield between


@contextmanager
def refusing_server(port: int, refuses: Callable[[str, str], bool]) -> Iterator[int]:
    """Pass requests on, but for those that `refuses` says by their method and path: these are forbidden."""
    with _between(
        port, lambda _number, method, path, _headers: (403, "AccessDenied") if refuses(method, path) else None
    ) as between:
        yield between


@contextmanager
def answering_server(
    port: int, answer: Callable[[str, str, Mapping[str, str]], tuple[int, str] | None]
) -> Iterator[int]:
    """Pass requests on, but for those with an `answer` by their method, path and headers."""
    with _between(port, lambda _number, method, path, headers: answer(method, path, headers)) as between:
        yield between


@contextmanager
def _between(port: int, decide: Decide) -> Iterator[int]:
    lock = threading.Lock()
    count = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            nonlocal count
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            if len(body) < size:  # the client went away
                self.close_connection = True
                return
            with lock:
                count += 1
                number = count
            error = decide(number, self.command, self.path, dict(self.headers.items()))
            if error is None:
                self.pass_on(body)
                return
            status, code = error
            text = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.reply(status, {"Content-Type": "application/xml"}, text)

        def pass_on(self, body: bytes) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all
                    connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                headers = {
                    name: value
                    for name, value in answer.getheaders()
                    if name.lower() not in {"transfer-encoding", "connection", "date", "server"}
                }
                self.reply(answer.status, headers, answer.read())
            finally:
                connection.close()

        def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            # To HEAD the server tells the length of what it does not send.
            headers = {"Content-Length": str(len(body))} | headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(10)
