"""One HTTP request to a receiver, which may be anywhere, slow, broken or hostile; see `farm.safe_http`."""

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
"""Bytes of an answer that are read at most."""

_PASSING: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
"""Refusals that say nothing of what was sent."""

_TOO_MUCH: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


@dataclass
class Answer:
    """What came of a request: the answer's status and its beginning, or what went wrong."""

    status: int | None = None
    body: bytes = b""
    error: str | None = None
    unreachable: bool = False
    """There was no answer at all: no connection, none in time, or no HTTP."""
    seconds: float = 0.0
    retry_after: float | None = None
    """Seconds after which the receiver wants the next try, if it says so."""

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants nothing more, ever."""
        return self.status == HTTPStatus.GONE

    @property
    def is_definite(self) -> bool:
        """Whether the next try will be answered the same: what was sent, or where to, is not right."""
        is_refusal = self.status is not None and 300 <= self.status < 500
        return is_refusal and self.status not in _PASSING and self.retry_after is None

    @property
    def is_too_much(self) -> bool:
        """Whether the receiver wants nothing at all for `retry_after`."""
        return self.status in _TOO_MUCH and self.retry_after is not None

    @property
    def is_success(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The beginning of the answer."""
        return self.body[:MAX_ANSWER].decode("utf-8", "replace")


class Poster:
    """Makes requests. Use it as an asynchronous context manager, in one event loop."""

    def __init__(self, rule: AddressRule, seconds: float) -> None:
        """To addresses that `rule` allows; a request takes `seconds` at most, answer included."""
        self._seconds = seconds
        self._http = CheckedHttp(rule, seconds)

    async def __aenter__(self) -> "Poster":
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close what is open."""
        await self._http.__aexit__()

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send `body`; whatever goes wrong is told in the answer."""
        answer = Answer()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds):
                await self._post(url, body, headers, answer)
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

    async def _post(self, url: str, body: bytes, headers: dict[str, str], answer: Answer) -> None:
        about = {"User-Agent": "Recording-Farm-Webhooks", "Content-Type": "application/json"}
        async with self._http.answer("POST", url, about | headers, body) as response:
            answer.status = response.status_code
            answer.retry_after = retry_after(response.headers)
            await _read(response, answer)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After asks for (RFC 9110, 10.2.3), as a number or a date; None if it is none.

    A date is counted from the answer's own, so it does not matter what the time is here.
    """
    told = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,99}", told, re.ASCII):
        return float(told)
    then, present = _date(told), _date(headers.get("date", "")) or datetime.now(UTC)
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
    # A receiver that has answered has answered: what goes wrong in the rest of its answer changes nothing.
    if answer.status is None:
        answer.error, answer.unreachable = error, True


def _sentence(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return "the receiver did not accept the connection in time"
    if isinstance(error, BadCertificateError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _refusal(status: int | None) -> str:
    if status is not None and 300 <= status < 400:
        return f"the receiver answered {status}; redirects are not followed"
    return f"the receiver answered {status}"
