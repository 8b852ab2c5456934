"""The browser's only way out: a small HTTP proxy that applies the address rule to every connection.

A check of the URL alone would miss redirects, frames, pictures, scripts' own requests and names that resolve
differently the second time. Here the address that was checked is the address that is connected to.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from browser_bot.addresses import AddressRule, resolve

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
HEADER_TIMEOUT = 60.0
MAX_HEADER_BYTES = 64 * 1024
CHUNK = 64 * 1024
REQUEST_LINE = re.compile(r"([A-Z]+) (\S+) HTTP/1\.[01]")
# Marks an answer of the gateway itself, which the bot must not take for the page's.
PROBLEM_HEADER = "x-farm-gateway"


class _ProblemError(Exception):
    """A request that goes nowhere: the HTTP status to answer and the reason in words for people."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Gateway:
    """The proxy of one stage. `problem` is the last reason for which it let a request go nowhere."""

    def __init__(self, rule: AddressRule, always_allowed: Collection[tuple[str, int]]) -> None:
        """Apply `rule`, except to the hosts and ports of `always_allowed`."""
        self._rule = rule
        self._always_allowed = frozenset(always_allowed)
        self.problem: str | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the browser; one request, then it is closed."""
        try:
            async with asyncio.timeout(HEADER_TIMEOUT):
                header = await reader.readuntil(b"\r\n\r\n")
            await self._forward(header.decode("latin-1"), reader, writer)
        except _ProblemError as problem:
            self.problem = str(problem)
            logger.info("gateway: %s", problem)
            with suppress(OSError):
                writer.write(_answer(problem))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            logger.debug("gateway: a connection ended: %r", error)
        finally:
            writer.close()

    async def _forward(self, header: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_line, _, fields = header.partition("\r\n")
        match = REQUEST_LINE.fullmatch(request_line)
        if match is None:
            raise _ProblemError(400, "the browser sent no HTTP request")
        method, target = match[1], match[2]
        tunnel = method == "CONNECT"
        url = urlsplit(f"//{target}" if tunnel else target)
        if url.hostname is None or not (tunnel or url.scheme == "http"):
            raise _ProblemError(400, f"the gateway cannot open {target[:200]!r}")
        server_reader, server_writer = await self._connect(url.hostname, url.port or (443 if tunnel else 80))
        try:
            if tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _both_ways(reader, writer, server_reader, server_writer)
            else:
                path = target.partition("://")[2].partition("/")[2]
                server_writer.write(_origin_form(method, f"/{path}", fields))
                await _copy_body(fields, reader, server_writer)
                await _copy(server_reader, writer)
        finally:
            server_writer.close()

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        addresses = await resolve(host, port)
        if not addresses:
            raise _ProblemError(502, f"the host name {host} does not resolve")
        if (host, port) not in self._always_allowed:
            refused = [ip for ip in addresses if not self._rule.is_allowed(ip)]
            if refused:
                raise _ProblemError(
                    403, f"the host {host} is the address {refused[0]}, which may not be opened"
                )
        reason = ""
        for ip in addresses:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await asyncio.open_connection(str(ip), port)
            except TimeoutError:
                reason = "does not answer"
            except ConnectionRefusedError:
                reason = "refused the connection"
            except OSError as error:
                reason = f"cannot be reached ({error.strerror})"
        raise _ProblemError(502, f"the server {host}:{port} {reason}")


def _answer(problem: _ProblemError) -> bytes:
    reason = str(problem).encode("ascii", "replace")
    header = (
        f"HTTP/1.1 {problem.status} Gateway\r\ncontent-type: text/plain\r\nconnection: close\r\n"
        f"{PROBLEM_HEADER}: 1\r\ncontent-length: {len(reason)}\r\n\r\n"
    )
    return header.encode() + reason


def _origin_form(method: str, path: str, fields: str) -> bytes:
    # One request a connection: on a kept one the browser would send requests for other hosts.
    kept = [
        line
        for line in fields.split("\r\n")
        if line and line.partition(":")[0].strip().lower() not in {"connection", "proxy-connection"}
    ]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "connection: close", "", ""]).encode("latin-1")


async def _copy_body(fields: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on as much as the request says that it holds, and nothing of a next request."""
    if re.search(r"(?im)^transfer-encoding:", fields):
        raise _ProblemError(411, "the gateway takes no request of unknown length")
    length = re.search(r"(?im)^content-length:\s*(\d+)", fields)
    left = int(length[1]) if length else 0
    while left and (chunk := await reader.read(min(left, CHUNK))):
        left -= len(chunk)
        writer.write(chunk)
        await writer.drain()


async def _both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    server_reader: asyncio.StreamReader,
    server_writer: asyncio.StreamWriter,
) -> None:
    """Pass on everything until either side has no more to say."""
    ways = {
        asyncio.ensure_future(_copy(reader, server_writer)),
        asyncio.ensure_future(_copy(server_reader, writer)),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()


@asynccontextmanager
async def open_gateway(
    rule: AddressRule, always_allowed: Collection[tuple[str, int]] = ()
) -> AsyncIterator[tuple[Gateway, str]]:
    """Run a gateway on the loopback; yields it and its address for the browser's proxy setting."""
    gateway = Gateway(rule, always_allowed)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(gateway.serve(reader, writer))
        connections.add(connection)
        connection.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=MAX_HEADER_BYTES)
    try:
        yield gateway, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
