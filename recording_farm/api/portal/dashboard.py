"""RQ's dashboard at `/rq`, for the farm's administrators: queues, workers, failed jobs and their requeueing.

It is rq-dashboard as it comes, behind the portal's login. What its own pages lack is put around it:

- Its templates write job descriptions, metadata and errors into the page as they are. Some of that comes from
  clients, so every value of its templates is escaped here, as they are loaded.
- Its script is inline and compiles its templates, so the policy has a nonce and `unsafe-eval`; still nothing
  that was slipped into the page runs.
- It asks nobody where a request comes from. Only a page of the farm's own may have it change something.
- It connects to Redis anew for each request, by an address that it shows. It gets the API's client instead.

Deleting jobs is not offered: the farm would only queue them again.
"""

import logging
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import redis
from a2wsgi import WSGIMiddleware
from jinja2 import BaseLoader, Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from recording_farm.api.context import context_of
from recording_farm.api.error_responses import REDIS_HEADERS, redis_message
from recording_farm.api.portal.visitor import (
    check_administrator,
    check_same_origin,
    visitor_of,
    with_error_pages,
)
from recording_farm.api.services.sessions import SAFE_METHODS
from recording_farm.farm.db.faults import describe

logger = logging.getLogger(__name__)

_UNESCAPED: Final = re.compile(r"<%=(?!\s*\$\('<div/>'\))")
"""What is escaped in the template already: `$('<div/>').text(…).html()`."""

_ADDED: Final = {
    '<script type="text/javascript">': '<script nonce="{{ g.nonce }}">',
    '<a class="navbar-brand">RQ-dashboard</a>': '<a class="navbar-brand" href="/">Recording Farm</a>',
}
"""What is in the templates, and what stands there instead."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


class Dashboard:
    """The dashboard as an ASGI app."""

    def __init__(self) -> None:
        """Nothing is loaded before somebody wants to see it."""
        self._client: redis.Redis | None = None
        self._bridge: WSGIMiddleware | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an administrator through to it."""
        request = Request(scope, receive)
        await (await with_error_pages(self._answer)(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        check_administrator(await visitor_of(request))
        if request.method not in SAFE_METHODS or "/requeue/" in request.url.path:
            check_same_origin(request)
        client = context_of(request).redis
        if self._bridge is None or self._client is not client:  # a process may have one app after another
            self._client, self._bridge = client, WSGIMiddleware(cast("Any", _flask_app(client)))
        return _Bridged(self._bridge)


class _Bridged(Response):
    """What the dashboard answers."""

    def __init__(self, bridge: WSGIMiddleware) -> None:
        self._bridge = bridge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._bridge(cast("Any", scope), cast("Any", receive), cast("Any", send))


class _Escaping(BaseLoader):
    """The dashboard's templates: values are escaped, the script has the page's nonce, a link leads back."""

    def __init__(self, directory: Path) -> None:
        self._files = FileSystemLoader(directory)

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        source, file, is_current = self._files.get_source(environment, template)
        source = _UNESCAPED.sub("<%-", source)
        for before, after in _ADDED.items():
            source = source.replace(before, after)
        return source, file, is_current


def _flask_app(client: redis.Redis) -> Any:
    # Loaded for those who see it: it takes longer than the rest of the API to start.
    import rq_dashboard
    from flask import Flask, g
    from flask import Response as FlaskResponse
    from rq.exceptions import InvalidJobOperation, NoSuchJobError

    directory = Path(rq_dashboard.__file__).parent
    app = Flask(__name__, static_folder=directory / "static", template_folder=None)
    app.jinja_loader = _Escaping(directory / "templates")
    app.config["RQ_DASHBOARD_REDIS_URL"] = ("the farm's Redis",)
    app.config["RQ_DASHBOARD_DISABLE_DELETE"] = True
    cast("Any", app).redis_conn = client
    app.register_blueprint(rq_dashboard.blueprint)
    # The one that connects anew for each request, by the address that it shows.
    app.before_request_funcs.pop(rq_dashboard.blueprint.name, None)

    @app.before_request
    def _make_nonce() -> None:
        g.nonce = secrets.token_urlsafe(16)

    @app.after_request
    def _add_headers(response: FlaskResponse) -> FlaskResponse:
        response.headers["Content-Security-Policy"] = _POLICY.format(nonce=g.nonce)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        return response

    @app.errorhandler(NoSuchJobError)
    def _no_such_job(_error: Exception) -> tuple[str, int]:
        return "There is no such job any more.", 404

    @app.errorhandler(InvalidJobOperation)
    def _not_failed(_error: Exception) -> tuple[str, int]:
        return "The job has not failed, or somebody has put it back already.", 409

    @app.errorhandler(redis.RedisError)
    def _redis_failed(error: Exception) -> tuple[str, int, dict[str, str]]:
        logger.error("rq-dashboard: %s", describe(error))
        return redis_message(error), 503, REDIS_HEADERS

    return app
