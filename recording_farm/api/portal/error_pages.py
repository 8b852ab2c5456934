"""Errors outside of the portal's own routes: a page for browsers, JSON for API clients.

A person mistypes an address, or opens a download link that has expired. Their browser sends `text/html` in
`Accept` and gets a page; every other client gets the JSON that `api.error_responses` makes.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

import redis
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from recording_farm.api.portal.page import error_page
from recording_farm.api.portal.visitor import visitor_of
from recording_farm.farm.errors import FarmError

_HEADERS_OF_JSON: Final = frozenset({"content-length", "content-type"})


def with_error_pages_for_browsers(handlers: Mapping[Any, ExceptionHandler]) -> dict[Any, ExceptionHandler]:
    """The exception handlers of the app, which answer browsers with a page."""
    return {kind: _page_for_browsers(handler) for kind, handler in handlers.items()}


def wants_page(request: Request) -> bool:
    """Whether the client is a browser that opens an address; scripts and images do not accept `text/html`."""
    return "text/html" in request.headers.get("accept", "").lower()


def _page_for_browsers(handler: ExceptionHandler) -> ExceptionHandler:
    async def answer(request: Any, error: Exception) -> Response:
        response = await cast("Any", handler)(request, error)
        # A WebSocket has handlers too, and no page.
        if isinstance(request, Request) and wants_page(request):
            return await _as_page(request, response)
        return cast("Response", response)

    return answer


async def _as_page(request: Request, response: Response) -> Response:
    if response.status_code < 500:
        # The page has the navigation of a visitor who is logged in.
        with suppress(FarmError, redis.RedisError):
            await visitor_of(request)
    message = json.loads(bytes(response.body))["error"]["message"]
    page = error_page(request, response.status_code, message)
    for name, value in response.headers.items():
        if name not in _HEADERS_OF_JSON:
            page.headers[name] = value
    page.headers.add_vary_header("Accept")
    return page
