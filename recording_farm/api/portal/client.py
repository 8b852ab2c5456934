"""The API as the pages ask it: inside the process, with the visitor's session."""

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
"""A check of a storage takes 20 s at most, and a watermark may be fetched before a recording starts."""


class Answer(NamedTuple):
    """What the API answers: the data, and of a list which page that is."""

    data: Any
    paging: Mapping[str, int] | None


def segment(text: str) -> str:
    """What a visitor names, as one segment of a path. Raises RefusedError when it is empty."""
    if not text:
        raise RefusedError(422, "a name or an id is missing")
    # Dots alone would lead to another place of the API.
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
    """Ask for something at `path`, which follows the dialect's prefix.

    Raises RefusedError, SessionEndedError.
    """
    response = await fetch(request, visitor, method, path, body=body, query=query, headers=headers)
    content = response.json()
    if content["success"]:
        return Answer(content["data"], content.get("paging"))
    error = content["error"]
    if error["type"] == SessionEndedError.code:
        raise SessionEndedError(error["message"])
    raise RefusedError(response.status_code, error["message"])


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
    """The same for what is no JSON, or may fail. Raises RefusedError when it takes too long."""
    transport = httpx.ASGITransport(
        request.app, raise_app_exceptions=False, client=(client_address(request), 0)
    )
    base = f"{request.url.scheme}://portal"
    sent = {
        "Cookie": request.headers.get("cookie", ""),
        CSRF_HEADER: visitor.csrf_token,
        **(headers or {}),
    }
    # Other programs of the same host have cookies too, in any letters; they stand in headers as Latin-1.
    encoded = [(name.encode(), text.encode("latin-1", "replace")) for name, text in sent.items()]
    async with httpx.AsyncClient(transport=transport, base_url=base, trust_env=False) as client:
        try:
            async with asyncio.timeout(_SECONDS):  # httpx has none for an app in the process
                return await client.request(method, DYTE + path, json=body, params=query, headers=encoded)
        except TimeoutError:
            raise RefusedError(
                504, f"the farm has not done it within {_SECONDS:.0f} s; look again later"
            ) from None
