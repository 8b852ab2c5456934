"""The gateway: the only HTTP proxy of a browser, which applies the address rule to every connection.

A check of the URL alone would miss redirects, frames, images, requests by scripts, and names that resolve
differently the second time (DNS rebinding). The gateway connects to the address that it checked.
"""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from urllib.parse import urlsplit

from recording_farm.browser_bot.errors import BrowserBotError
from recording_farm.browser_bot.network.addresses import (
    AddressRule,
    is_under,
    lookup_addresses,
    refusal_message,
)
from recording_farm.browser_bot.network.dns import RESOLVE_SECONDS, unresolved_message
from recording_farm.browser_bot.network.host_names import IpAddress, normalize_host
from recording_farm.browser_bot.waiting import first_of

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
MAX_SLOW_LOOKUPS = 8
"""How many concurrent DNS lookups get the full time-out; further ones get SHORT_LOOKUP_SECONDS. Chromium
opens at most 32 connections to its proxy, and lookups without an answer must not block all of them."""

SHORT_LOOKUP_SECONDS = 1.0
HEADER_TIMEOUT = 60.0
LINGER_TIMEOUT = 10.0
"""How long a closing connection may take to flush its last bytes."""

MAX_PROBLEMS = 1_000
"""How many servers the gateway remembers a problem for; a page may contact any number."""

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_HEADER_BYTES = 64 * 1024
CHUNK = 64 * 1024
REQUEST_LINE = re.compile(r"([A-Z]+) ([!-~]+) HTTP/1\.[01]")
AMBIGUOUS = re.compile(r"[\r\n\0]")
"""Characters that some HTTP parsers treat as the end of a line or of the header, and others do not."""

PROBLEM_HEADER = "x-farm-gateway"
"""Marks a response by the gateway itself, so that the bot does not mistake it for the page."""


class _GatewayError(BrowserBotError):
    """The gateway refuses or cannot forward a request: the HTTP status and a message for users."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Gateway:
    """The proxy of one stage. `problem` is why it did not forward a request, the last time."""

    def __init__(
        self, rule: AddressRule, always_allowed: Collection[str], local_tls: Collection[str] = ()
    ) -> None:
        """Apply `rule`, except to http URLs that start with one of `always_allowed` (origin and path).

        Of these, the ones below `local_tls` are requested by TLS: they are this machine's own server, whose
        certificate has another name than its local address, so it is not verified.
        The rule applies to every tunnel (CONNECT), because the requests in it are encrypted.
        """
        self._rule = rule
        self._always_allowed = tuple(always_allowed)
        self._local_tls = tuple(local_tls)
        self._lookups = 0
        self.problem: str | None = None
        self._problems: dict[tuple[str, int], str] = {}

    def problem_with(self, url: str) -> str | None:
        """Return why the gateway did not forward a request to the server of `url`, the last time."""
        parts = urlsplit(url)
        try:
            host, port = (
                normalize_host(parts.hostname or ""),
                parts.port or DEFAULT_PORTS.get(parts.scheme, 0),
            )
        except ValueError:
            return None
        return self._problems.get((host, port))

    async def can_reach(self, url: str) -> bool:
        """Whether the rule allows the server of an http or https `url` and it accepts connections."""
        parts = urlsplit(url)
        exempt = parts.scheme == "http" and is_under(url, self._always_allowed)
        try:
            host, port = normalize_host(parts.hostname or ""), parts.port or DEFAULT_PORTS[parts.scheme]
            _, writer = await self._connect(host, port, exempt, self._tls_of(url, exempt))
        except (_GatewayError, ValueError):
            return False
        await _close(writer)
        return True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the browser: one request, then close it."""
        try:
            async with asyncio.timeout(HEADER_TIMEOUT):
                header = await reader.readuntil(b"\r\n\r\n")
            await self._forward(header.decode("latin-1"), reader, writer)
        except _GatewayError as problem:
            self.problem = str(problem)
            logger.info("gateway: %s", problem)
            with suppress(OSError):
                writer.write(_response(problem))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            logger.debug("gateway: a connection ended: %r", error)
        finally:
            await _close(writer)

    async def _forward(self, header: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_line, *fields = header.removesuffix("\r\n\r\n").split("\r\n")
        match = REQUEST_LINE.fullmatch(request_line)
        if match is None or any(AMBIGUOUS.search(field) for field in fields):
            raise _GatewayError(400, "the browser sent a malformed HTTP request")
        method, target = match[1], match[2]
        host, port, path = _destination(method, target)
        body = _body_length(fields)
        try:
            exempt = method != "CONNECT" and is_under(target, self._always_allowed)
            tls = self._tls_of(target, exempt)
            server_reader, server_writer = await self._connect(host, port, exempt, tls)
        except _GatewayError as problem:
            if len(self._problems) >= MAX_PROBLEMS:
                self._problems.clear()
            self._problems[host, port] = str(problem)
            raise
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                upload = _copy(reader, server_writer)
            else:
                server_writer.write(_origin_form(method, path, fields))
                upload = _copy_body(body, reader, server_writer)
            # Until either side is done.
            await first_of(upload=upload, download=_copy(server_reader, writer))
        finally:
            await _close(server_writer)

    def _tls_of(self, url: str, exempt: bool) -> ssl.SSLContext | None:
        return _unverified_tls() if exempt and is_under(url, self._local_tls) else None

    async def _connect(
        self, host: str, port: int, exempt: bool, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        addresses = await self._addresses_of(host)
        if not addresses:
            raise _GatewayError(502, unresolved_message(host))
        if not exempt:
            refused = [ip for ip in addresses if not self._rule.is_allowed(ip)]
            if refused:
                # A worker on another machine than the API does not reach the built-in meeting at 127.0.0.1.
                is_local = host == "localhost" or (host == str(refused[0]) and refused[0].is_loopback)
                hint = "; for the built-in meeting, set FARM_MEETING_URL" if is_local else ""
                raise _GatewayError(403, refusal_message(host, refused[0]) + hint)
        reason = ""
        for ip in addresses:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await asyncio.open_connection(str(ip), port, ssl=tls)
            except TimeoutError:
                reason = "does not answer"
            except ConnectionRefusedError:
                reason = "refused the connection"
            except OSError as error:
                reason = f"cannot be reached ({error.strerror})"
        raise _GatewayError(502, f"the server {host}:{port} {reason}")

    async def _addresses_of(self, host: str) -> tuple[IpAddress, ...]:
        seconds = RESOLVE_SECONDS if self._lookups < MAX_SLOW_LOOKUPS else SHORT_LOOKUP_SECONDS
        self._lookups += 1
        try:
            return await lookup_addresses(host, seconds, self)
        finally:
            self._lookups -= 1


@cache
def _unverified_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _response(problem: _GatewayError) -> bytes:
    reason = str(problem).encode("ascii", "replace")
    header = (
        f"HTTP/1.1 {problem.status} Gateway\r\ncontent-type: text/plain\r\nconnection: close\r\n"
        f"{PROBLEM_HEADER}: 1\r\ncontent-length: {len(reason)}\r\n\r\n"
    )
    return header.encode() + reason


def _destination(method: str, target: str) -> tuple[str, int, str]:
    """Return host, port and path of a request; the path of a tunnel is `/`."""
    tunnel = method == "CONNECT"
    try:
        url = urlsplit(f"//{target}" if tunnel else target)
        host, port = normalize_host(url.hostname or ""), url.port or (443 if tunnel else 80)
    except ValueError:
        raise _GatewayError(400, f"the gateway cannot open {target[:200]!r}") from None
    if not (tunnel or url.scheme == "http"):
        raise _GatewayError(400, f"the gateway cannot open {target[:200]!r}")
    path = "" if tunnel else re.sub(r"^[^:]*://[^/?#]*", "", target)
    return host, port, path if path.startswith("/") else f"/{path}"


def _name(field: str) -> str:
    return field.partition(":")[0].strip().lower()


def _body_length(fields: Sequence[str]) -> int:
    """Return the length of the request body."""
    if any(_name(field) == "transfer-encoding" for field in fields):
        raise _GatewayError(411, "the gateway does not support requests of unknown length")
    lengths = {field.partition(":")[2].strip() for field in fields if _name(field) == "content-length"}
    if not lengths:
        return 0
    if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,15}", length := lengths.pop()):
        raise _GatewayError(400, "the request has an invalid content-length")
    return int(length)


def _origin_form(method: str, path: str, fields: Sequence[str]) -> bytes:
    # One request per connection: on a persistent one the browser would send requests for other hosts.
    kept = [field for field in fields if _name(field) not in {"connection", "proxy-connection"}]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "connection: close", "", ""]).encode("latin-1")


async def _copy_body(length: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward the request body; return when the browser disconnects or sends another request.

    It sends another one if the server keeps the connection alive in spite of `connection: close`. When the
    connection closes, the browser retries on a new one.
    """
    while length and (chunk := await reader.read(min(length, CHUNK))):
        length -= len(chunk)
        writer.write(chunk)
        await writer.drain()
    await reader.read(1)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Flush and close a connection; abort it after LINGER_TIMEOUT or when cancelled."""
    writer.close()
    try:
        async with asyncio.timeout(LINGER_TIMEOUT):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()


@asynccontextmanager
async def open_gateway(
    rule: AddressRule, always_allowed: Collection[str] = (), local_tls: Collection[str] = ()
) -> AsyncIterator[tuple[Gateway, str]]:
    """Run a gateway on the loopback interface; yield it and its URL for the browser's proxy setting."""
    gateway = Gateway(rule, always_allowed, local_tls)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with serve_gateway(gateway, listener):
            yield gateway, url


@asynccontextmanager
async def serve_gateway(gateway: Gateway, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the connections to a socket, which may be in another network namespace."""
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(gateway.serve(reader, writer))
        connections.add(connection)
        connection.add_done_callback(connections.discard)
        # The task may be cancelled before its first step.
        connection.add_done_callback(lambda _: writer.transport.abort())

    server = await asyncio.start_server(accept, sock=listener, limit=MAX_HEADER_BYTES)
    try:
        yield
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
