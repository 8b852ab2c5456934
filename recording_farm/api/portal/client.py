"""The API as the pages call it: inside the process, with the visitor's session."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx
from starlette.requests import Request

from recording_farm.api.auth import client_address
from recording_farm.api.http_errors import SessionEndedError
from recording_farm.api.operations import DYTE
from recording_farm.api.portal.visitor import RefusedError, Visitor
from recording_farm.api.services.sessions import CSRF_HEADER

_SECONDS: Final = 60.0
"""A storage check takes up to 20 s, and a start may fetch a watermark first."""


class Answer(NamedTuple):
    """The data of a response, and the paging of a list."""

    data: Any
    paging: Mapping[str, int] | None


def segment(text: str) -> str:
    """Text from a visitor as one segment of a path. Raises RefusedError when it is empty."""
    if not text:
        raise RefusedError(422, "a name or an id is missing")
    # A segment of dots would be another path of the API.
    return quote(text, safe="").replace(".", "%2E")


async def ask(
    request: Request,
    visitor: Visitor,
    method: str,
    path: str,
    *,
    body: Any = None,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request to `path`, below the dialect's prefix.

    Raises RefusedError, SessionEndedError.
    """
    response = await fetch(request, visitor, method, path, body=body, query=query, headers=headers)
    content = response.json()
    if content["success"]:
        return Answer(content["data"], content.get("paging"))
    error = content["error"]
    if error["type"] == SessionEndedError.code:
        raise SessionEndedError(error["message"])
    raise RefusedError(response.status_code, error["message"], error["type"])


async def fetch(
    request: Request,
    visitor: Visitor,
    method: str,
    path: str,
    *,
    body: Any = None,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """The same for any response. Raises RefusedError when it takes too long."""
    transport = httpx.ASGITransport(
        request.app, raise_app_exceptions=False, client=(client_address(request), 0)
    )
    base = f"{request.url.scheme}://portal"
    sent = {
        "Cookie": request.headers.get("cookie", ""),
        CSRF_HEADER: visitor.csrf_token,
        **(headers or {}),
    }
    # Other programs on the host set cookies too, with any characters; headers are Latin-1.
    encoded = [(name.encode(), text.encode("latin-1", "replace")) for name, text in sent.items()]
    async with httpx.AsyncClient(transport=transport, base_url=base, trust_env=False) as client:
        try:
            async with asyncio.timeout(_SECONDS):  # httpx has no timeout for an app in the process
                return await client.request(method, DYTE + path, json=body, params=query, headers=encoded)
        except TimeoutError:
            raise RefusedError(
                504, f"this took longer than {_SECONDS:.0f} s; reload the page later to see the result"
            ) from None
