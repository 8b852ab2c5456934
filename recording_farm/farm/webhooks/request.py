"""One HTTP request to a receiver, which may be slow, broken or hostile; see `farm.safe_http`."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import httpx

from recording_farm.browser_bot.network.addresses import AddressError, AddressRule
from recording_farm.farm.safe_http import BadCertificateError, CheckedHttp
from recording_farm.farm.webhooks.log import MAX_ANSWER

_MAX_READ: Final = 64 * 1024
"""Maximum bytes that are read of a response."""

_TRANSIENT: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
"""Rejections that do not depend on the content of the request."""

_THROTTLED: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


@dataclass
class Answer:
    """The result of a request: the response's status and beginning, or the error."""

    status: int | None = None
    body: bytes = b""
    error: str | None = None
    unreachable: bool = False
    """There was no response: no connection, a time-out, or no HTTP."""
    seconds: float = 0.0
    retry_after: float | None = None
    """Seconds that the receiver asks to wait before the next attempt, if it does."""

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no more deliveries (410)."""
        return self.status == HTTPStatus.GONE

    @property
    def is_permanent(self) -> bool:
        """Whether a retry would be rejected again, because the request or its URL is wrong."""
        is_rejection = self.status is not None and 300 <= self.status < 500
        return is_rejection and self.status not in _TRANSIENT and self.retry_after is None

    @property
    def is_throttled(self) -> bool:
        """Whether the receiver wants no requests at all for `retry_after`."""
        return self.status in _THROTTLED and self.retry_after is not None

    @property
    def is_success(self) -> bool:
        """Whether the receiver has accepted it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The beginning of the response."""
        return self.body[:MAX_ANSWER].decode("utf-8", "replace")


class Poster:
    """Makes requests. Use it as an asynchronous context manager, in one event loop."""

    def __init__(self, rule: AddressRule, seconds: float) -> None:
        """Connect only to addresses that `rule` allows; `seconds` limits a request with its response."""
        self._seconds = seconds
        self._http = CheckedHttp(rule, seconds)

    async def __aenter__(self) -> "Poster":
        """Return the poster."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._http.__aexit__()

    async def post(
        self, url: str, body: bytes, headers: dict[str, str], organization_id: str | None = None
    ) -> Answer:
        """Send `body` for an organization; the answer has the error, if any."""
        answer = Answer()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds):
                await self._post(url, body, headers, answer, organization_id)
        except TimeoutError:
            _fail(answer, f"no answer within {self._seconds:g} s")
        except AddressError as error:
            _fail(answer, str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            _fail(answer, _sentence(error))
        answer.seconds = time.monotonic() - began
        if answer.error is None and not answer.is_success:
            answer.error = _refusal(answer.status)
        return answer

    async def _post(
        self, url: str, body: bytes, headers: dict[str, str], answer: Answer, organization_id: str | None
    ) -> None:
        about = {"User-Agent": "Recording-Farm-Webhooks", "Content-Type": "application/json"}
        async with self._http.answer("POST", url, about | headers, body, organization_id) as response:
            answer.status = response.status_code
            answer.retry_after = retry_after(response.headers)
            await _read(response, answer)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After (RFC 9110, 10.2.3), a number or a date; None if it is missing or invalid.

    A date is relative to the response's own `Date`, so the local clock does not matter.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,99}", value, re.ASCII):
        return float(value)
    then, present = _date(value), _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (then - present).total_seconds()) if then is not None else None


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


async def _read(response: httpx.Response, answer: Answer) -> None:
    read = 0
    async for chunk in response.aiter_raw():
        if read < MAX_ANSWER:
            answer.body += chunk[: MAX_ANSWER - read]
        read += len(chunk)
        if read >= _MAX_READ:
            return


def _fail(answer: Answer, error: str) -> None:
    # After the status, errors in the rest of the response do not matter.
    if answer.status is None:
        answer.error, answer.unreachable = error, True


def _sentence(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return "the receiver did not accept the connection in time"
    if isinstance(error, BadCertificateError):
        return str(error)
    if isinstance(error, httpx.ConnectError):
        return "the receiver does not accept the connection"
    if isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError):
        return "the receiver closed the connection before it answered"
    return f"the request failed: {error or type(error).__name__}"


def _refusal(status: int | None) -> str:
    if status is not None and 300 <= status < 400:
        return f"the receiver answered {status}; redirects are not followed"
    return f"the receiver answered {status}"
