"""Logs one line for each request: method, route, status and duration.

The raw path and query are not logged: they contain signatures of links, and arbitrary client input. The path
is the route's; the id of the recording is bound to the log context.
"""

import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger: Final = logging.getLogger(__name__)

_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that programs poll."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class RequestLog:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        """Log the requests to `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        structlog.contextvars.clear_contextvars()
        began = time.monotonic()
        status = 500

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_look)
        finally:
            path = path_of(scope)
            level = logging.DEBUG if path in _QUIET else logging.INFO
            milliseconds = round((time.monotonic() - began) * 1000, 1)
            fields = {"status": status, "milliseconds": milliseconds}
            logger.log(level, "%s %s", scope["method"], path, extra=fields)


def path_of(scope: Scope) -> str:
    """The path template of the route that handled a request."""
    return str(getattr(scope.get("route"), "path", "-"))


def bind_recording(path_params: Mapping[str, Any]) -> None:
    """Bind the recording in a request's path to the log context."""
    recording_id = str(path_params.get("recording_id", ""))
    if _UUID.fullmatch(recording_id):
        structlog.contextvars.bind_contextvars(recording=recording_id.lower())
