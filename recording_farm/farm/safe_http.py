"""HTTP requests to URLs from untrusted users, protected against SSRF.

The host is resolved once, its addresses are checked, and the connection goes to one of these, so that DNS
rebinding has no effect. Redirects and proxies of the environment are not followed.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from recording_farm.browser_bot.network.addresses import (
    AddressError,
    AddressRule,
    Destination,
    resolve_url,
)
from recording_farm.browser_bot.network.dns import RESOLVE_SECONDS, unresolved_message
from recording_farm.browser_bot.network.host_names import IpAddress, in_url
from recording_farm.farm.certificates import certificate_problem, fetch_certificate

_CONNECT_SHARE: Final = 0.4
"""Share of the time-out for one connection attempt, which leaves time for the next address."""

_NAME_SHARE: Final = 0.8
"""Share of the time-out for DNS, so that a slow lookup gets its own error."""

_SHOWN_SECONDS: Final = 1.0
"""Time-out for fetching an invalid certificate again, for the error message."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class BadCertificateError(httpx.TransportError):
    """The server's certificate is invalid; the message explains why, for the client."""


class CheckedHttp:
    """An HTTP client; an asynchronous context manager, for one event loop."""

    def __init__(self, rule: AddressRule, seconds: float) -> None:
        """Connect to addresses that `rule` allows; `seconds` is the time-out of each wait."""
        self._rule = rule
        self._name_seconds = min(seconds * _NAME_SHARE, RESOLVE_SECONDS)
        # No keep-alive: hosts at the same address would share connections.
        transport = httpx.AsyncHTTPTransport(
            verify=_tls(),
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0, max_connections=None),
        )
        self._client = httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(seconds, connect=seconds * _CONNECT_SHARE),
        )

    async def __aenter__(self) -> "CheckedHttp":
        """Enter."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def answer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        requester: object = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; yields the response, whose body is not read yet.

        The name is resolved within the share of `requester`, see `browser_bot.network.dns`. Raises
        AddressError when the URL or its address is not allowed or does not resolve, and
        httpx.HTTPError, httpx.InvalidURL, OSError or ValueError when there is no response.
        """
        destination = await resolve_url(url, self._rule, self._name_seconds, requester)
        if not destination.addresses:
            raise AddressError(unresolved_message(destination.host))
        response = await self._first_answer(method, url, destination, headers, body)
        try:
            yield response
        finally:
            await response.aclose()

    async def _first_answer(
        self, method: str, url: str, destination: Destination, headers: Mapping[str, str], body: bytes | None
    ) -> httpx.Response:
        *others, last = destination.addresses
        for address in others:
            try:
                return await self._send(
                    self._request(method, url, destination, address, headers, body), destination
                )
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._send(self._request(method, url, destination, last, headers, body), destination)

    async def _send(self, request: httpx.Request, destination: Destination) -> httpx.Response:
        try:
            return await self._client.send(request, stream=True)
        except httpx.ConnectError as error:
            # Do not try the host's other addresses: their errors would hide this one.
            if not certificate_problem(error):
                raise
            address, port = request.url.host, destination.port
            shown = await fetch_certificate(address, port, destination.host, _SHOWN_SECONDS)
            raise BadCertificateError(certificate_problem(error, shown) or str(error)) from error

    def _request(
        self,
        method: str,
        url: str,
        destination: Destination,
        address: IpAddress,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> httpx.Request:
        """A request to one address; the host name stays in the Host header and in TLS (SNI, verification)."""
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        return self._client.build_request(
            method,
            # The address, not the name: httpx accepts fewer names than browsers do.
            httpx.URL(urlunsplit((scheme, f"{in_url(str(address))}:{destination.port}", *parts[2:4], ""))),
            content=body,
            headers={
                "Host": _host_header(scheme, destination),
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                **headers,
            },
            extensions={"sni_hostname": destination.host},
        )


# Loading the certificate authorities takes longer than a delivery.
@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _host_header(scheme: str, destination: Destination) -> str:
    host = in_url(destination.host)
    return host if destination.port == _DEFAULT_PORTS[scheme] else f"{host}:{destination.port}"
