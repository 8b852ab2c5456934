"""Cross-Origin Resource Sharing: which pages of other origins may use the API and read its answers.

Any page may read what a signed link leads to and a live preview, so that web players work. The rest of the
API may be used by the pages of the origins in FARM_CORS_ORIGINS. The portal, the built-in meeting and the
metrics are for no other origin. See the Fetch standard, 3.3.

`Access-Control-Allow-Credentials` is never sent. A page of another origin has to bring a key or a token of
its own: a browser gives it no answer to a request that carries the portal's cookie.
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
"""What the paths of the API begin with."""

_PREFLIGHT_SECONDS: Final = 7200
"""How long a browser may keep the answer to a preflight; Chromium keeps none longer."""

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
    """An ASGI middleware. It goes around all of the app, so that errors can be read as well."""

    def __init__(self, app: ASGIApp, operations: Iterable[Operation], origins: Sequence[str]) -> None:
        """Let pages of `origins` use `operations`, and those of any origin what is `for_any_origin`."""
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
        """Answer one request."""
        await self._way(scope)(scope, receive, send)

    def _way(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http":
            return self._app
        path = scope["path"]
        if any(pattern.match(path) for pattern in self._open_paths):
            return self._files
        return self._api if path.startswith(_API) else self._app


class _Sharing(CORSMiddleware):
    """Starlette's middleware. What it refuses is an error like any other of the API's."""

    def __init__(
        self, app: ASGIApp, origins: Sequence[str], methods: Sequence[str], exposed: Sequence[str]
    ) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=methods,
            # Any: clients have headers of their own (`x-realtimekit-version`, `tracing-id`, `traceparent`),
            # and as no cookie counts, none of them opens anything.
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=exposed,
            max_age=_PREFLIGHT_SECONDS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks before it sends the page's request."""
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
