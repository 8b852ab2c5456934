"""Cross-Origin Resource Sharing: which pages of other origins may use the API.

Any origin may read signed links and live previews, so that web players work. The rest of the API is open to
FARM_CORS_ORIGINS. The portal, the built-in meeting and the metrics are same-origin only. See the Fetch
standard, 3.3.

`Access-Control-Allow-Credentials` is never sent, so pages of other origins need a key or token of their own;
the portal's cookie does not work for them.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from recording_farm.api.error_responses import error_response
from recording_farm.api.operations import Operation

ANY_ORIGIN: Final = "*"

_API: Final = ("/v2/", "/client/v4/", "/openapi.json")
"""Path prefixes of the API."""

_PREFLIGHT_SECONDS: Final = 7200
"""How long browsers may cache a preflight response; Chromium's maximum."""

_FILE_METHODS: Final = ("GET", "HEAD")
_API_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_FILE_HEADERS: Final = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Last-Modified",
)
_API_HEADERS: Final = (
    *_FILE_HEADERS,
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "WWW-Authenticate",
)


class CrossOrigin:
    """An ASGI middleware around the whole app, so that error responses have CORS headers too."""

    def __init__(self, app: ASGIApp, operations: Iterable[Operation], origins: Sequence[str]) -> None:
        """Open `operations` to `origins`, and those with `for_any_origin` to any origin."""
        self._app = app
        self._open_paths = [
            compile_path(dialect + operation.path)[0]
            for operation in operations
            if operation.for_any_origin
            for dialect in operation.dialects
        ]
        self._files = _Sharing(app, (ANY_ORIGIN,), _FILE_METHODS, _FILE_HEADERS)
        self._api = _Sharing(app, origins, _API_METHODS, _API_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await self._app_for(scope)(scope, receive, send)

    def _app_for(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http":
            return self._app
        path = scope["path"]
        if any(pattern.match(path) for pattern in self._open_paths):
            return self._files
        return self._api if path.startswith(_API) else self._app


class _Sharing(CORSMiddleware):
    """Starlette's middleware, with rejections in the API's error format."""

    def __init__(
        self, app: ASGIApp, origins: Sequence[str], methods: Sequence[str], exposed: Sequence[str]
    ) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=methods,
            # Any: clients send headers of their own (`x-realtimekit-version`, `tracing-id`, `traceparent`),
            # and without cookies none of them grants access.
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=exposed,
            max_age=_PREFLIGHT_SECONDS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The response to a preflight request."""
        origin, method = request_headers["origin"], request_headers["access-control-request-method"]
        if not self.is_allowed_origin(origin):
            message = f"origin {origin} is not allowed; add it to FARM_CORS_ORIGINS"
            return error_response(403, "origin_refused", message, {"Vary": "Origin"})
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        refused = error_response(405, "method_not_allowed", f"{method} is not allowed here")
        refused.headers["Access-Control-Allow-Origin"] = response.headers["Access-Control-Allow-Origin"]
        refused.headers["Vary"] = response.headers["Vary"]
        return refused
