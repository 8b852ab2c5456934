"""One HTTP request to a receiver, which may be anywhere, slow, broken or hostile.

The name is looked up once, its addresses are checked, and the connection goes to one of these: a name that
leads elsewhere a moment later leads nowhere. Redirects are not followed, and no proxy of the environment is
used.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import httpx

from browser_bot.addresses import AddressRule, Destination, IpAddress, PageAddressError, destination_of
from farm.webhook_log import LONGEST_ANSWER

_LONGEST_READ: Final = 64 * 1024
"""Bytes of an answer that are read at most."""

_CONNECT_SHARE: Final = 0.4
"""The share of the time that one address may take to accept a connection, so that the next one has some."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass
class Answer:
    """What came of a request: the answer's status and its beginning, or what went wrong."""

    status: int | None = None
    body: bytes = b""
    error: str | None = None
    unreachable: bool = False
    """There was no answer at all: no connection, none in time, or no HTTP."""
    seconds: float = 0.0

    @property
    def is_success(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The beginning of the answer."""
        return self.body[:LONGEST_ANSWER].decode("utf-8", "replace")


class Poster:
    """Makes requests. Use it as an asynchronous context manager, in one event loop."""

    def __init__(self, rule: AddressRule, seconds: float) -> None:
        """To addresses that `rule` allows; a request takes `seconds` at most, answer included."""
        self._rule = rule
        self._seconds = seconds
        # Connections are not kept: they would be shared by names that lie at the same address.
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

    async def __aenter__(self) -> "Poster":
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close what is open."""
        await self._client.aclose()

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send `body`; whatever goes wrong is told in the answer."""
        answer = Answer()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds):
                await self._post(url, body, headers, answer)
        except TimeoutError:
            _fail(answer, f"no answer within {self._seconds:g} s")
        except PageAddressError as error:
            _fail(answer, str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            _fail(answer, _sentence(error))
        answer.seconds = time.monotonic() - began
        if answer.error is None and not answer.is_success:
            answer.error = _refusal(answer.status)
        return answer

    async def _post(self, url: str, body: bytes, headers: dict[str, str], answer: Answer) -> None:
        destination = await destination_of(url, self._rule)
        if not destination.addresses:
            raise PageAddressError(f"the name {destination.host} does not resolve")
        last = len(destination.addresses) - 1
        for number, address in enumerate(destination.addresses):
            request = self._request(url, destination, address, body, headers)
            try:
                response = await self._client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if number == last:
                    raise
                continue
            try:
                answer.status = response.status_code
                await _read(response, answer)
            finally:
                await response.aclose()
            return

    def _request(
        self, url: str, destination: Destination, address: IpAddress, body: bytes, headers: dict[str, str]
    ) -> httpx.Request:
        """The request to one address; the name stays in the Host header and in TLS, which verifies it."""
        parts = httpx.URL(url)
        return self._client.build_request(
            "POST",
            parts.copy_with(host=str(address), port=destination.port),
            content=body,
            headers={
                "Host": _host_header(parts.scheme, destination),
                "User-Agent": "Recording-Farm-Webhooks",
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                **headers,
            },
            extensions={"sni_hostname": destination.host},
        )


# Reading the certificate authorities takes longer than a delivery.
@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _read(response: httpx.Response, answer: Answer) -> None:
    read = 0
    async for chunk in response.aiter_raw():
        if read < LONGEST_ANSWER:
            answer.body += chunk[: LONGEST_ANSWER - read]
        read += len(chunk)
        if read >= _LONGEST_READ:
            return


def _host_header(scheme: str, destination: Destination) -> str:
    host = f"[{destination.host}]" if ":" in destination.host else destination.host
    return host if destination.port == _DEFAULT_PORTS[scheme] else f"{host}:{destination.port}"


def _fail(answer: Answer, error: str) -> None:
    # A receiver that has answered has answered: what goes wrong in the rest of its answer changes nothing.
    if answer.status is None:
        answer.error, answer.unreachable = error, True


def _sentence(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return "the connection was not accepted in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _refusal(status: int | None) -> str:
    if status is not None and 300 <= status < 400:
        return f"the receiver answered {status}; redirects are not followed"
    return f"the receiver answered {status}"
