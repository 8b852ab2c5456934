"""RQ's dashboard at `/rq`, for the farm's administrators: queues, workers, failed jobs and requeueing.

This serves rq-dashboard behind the portal's login, and adds what it lacks:

- Its templates write job descriptions, metadata and errors into the page without escaping. Some of that text
  comes from clients, so this module escapes every value when a template is loaded.
- Its script is inline and compiles its templates, so the policy has a nonce and `unsafe-eval`; injected
  scripts still do not run.
- It does not check the origin of a request. Only the portal's own pages may change something.
- It connects to Redis again for each request, and shows the URL. It gets the API's client instead.
- It has no dark mode, no landmarks and no way back. It gets the portal's header, style sheet and error pages.

Jobs cannot be deleted here: the farm would queue them again.
"""

import logging
import re
import secrets
from collections.abc import Callable, Mapping
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
from recording_farm.api.portal.error_pages import wants_page
from recording_farm.api.portal.page import ASSETS_PATH, error_page, header
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
"""Values that the template does not escape itself with `$('<div/>').text(…).html()`."""

_REPLACEMENTS: Final = {
    '<script type="text/javascript">': '<script nonce="{{ g.nonce }}">',
    '<a class="navbar-brand">RQ-dashboard</a>': '<span class="navbar-brand">RQ</span>',
    "<title>RQ dashboard</title>": "<title>Queues · Recording Farm</title>",
    'content="initial-scale=1.0"': 'content="width=device-width, initial-scale=1">\n'
    '        <meta name="color-scheme" content="light dark"',
    "{# Le styles -#}": f'<link rel="stylesheet" href="{ASSETS_PATH}/portal.css">',
    "</head>": f'<link rel="stylesheet" href="{ASSETS_PATH}/rq.css"></head>',
    '{% include "rq_dashboard/navbar.html" %}': '{{ g.header }}{% include "rq_dashboard/navbar.html" %}',
    """<div class="container">
            {% block content %}{% endblock %}
        </div>""": '<main class="container" id="main" tabindex="-1">{% block content %}{% endblock %}</main>',
    'id="navbar-dashboard" class=': 'id="navbar-dashboard" role="navigation" aria-label="RQ" class=',
    'id="rq-instances">': 'id="rq-instances" aria-label="Redis">',
    """<div class="section">

    <div class="input-group" id="filter-form">""": """<div class="section">

    <h1>Jobs</h1>
    <div class="input-group" id="filter-form">""",
    "<h2><strong>Job ID</strong>: {{ id }}</h2>": "<h1>Job {{ id }}</h1>",
    "<pre>": '<pre tabindex="0">',
    '<pre class="exc_info': '<pre tabindex="0" class="exc_info',
    '<div class="table-responsive': (
        '<div tabindex="0" role="group" aria-label="Table" class="table-responsive'
    ),
    'title="Queue name"': 'aria-label="Queue name"',
    'title="Registry name"': 'aria-label="Registry name"',
    'title="Job Sort Order"': 'aria-label="Job sort order"',
    'title="Jobs per page"': 'aria-label="Jobs per page"',
    '<div class="description-scroll">': '<div class="description-scroll" tabindex="0">',
    "This list below contains all the registered queues": "All queues",
    "This list below contains all the registered workers": "All workers",
    "This list below contains all the queued jobs on queue": "Jobs of the queue",
}
"""Text in the templates, and its replacement."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Dashboard:
    """The dashboard as an ASGI app."""

    def __init__(self) -> None:
        """rq-dashboard is loaded by the first request."""
        self._client: redis.Redis | None = None
        self._bridge: WSGIMiddleware | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the dashboard to an administrator."""
        request = Request(scope, receive)
        await (await with_error_pages(self._answer)(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        check_administrator(await visitor_of(request))
        if request.method not in SAFE_METHODS or "/requeue/" in request.url.path:
            check_same_origin(request)
        client = context_of(request).redis
        if self._bridge is None or self._client is not client:  # tests run several apps in one process
            self._client, self._bridge = client, WSGIMiddleware(cast("Any", _flask_app(client)))
        return _Bridged(self._bridge)


class _Bridged(Response):
    """A response of the dashboard."""

    def __init__(self, bridge: WSGIMiddleware) -> None:
        self._bridge = bridge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._bridge(cast("Any", scope), cast("Any", receive), cast("Any", send))


class _Escaping(BaseLoader):
    """Loads the dashboard's templates with escaped values and the replacements above."""

    def __init__(self, directory: Path) -> None:
        self._files = FileSystemLoader(directory)

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        source, file, is_current = self._files.get_source(environment, template)
        source = _UNESCAPED.sub("<%-", source)
        for before, after in _REPLACEMENTS.items():
            source = source.replace(before, after)
        return source, file, is_current


def _flask_app(client: redis.Redis) -> Any:
    # Imported here because it takes longer to load than the rest of the API.
    import rq_dashboard
    from flask import Flask, g
    from flask import Response as FlaskResponse
    from flask import request as flask_request
    from rq.exceptions import InvalidJobOperation, NoSuchJobError
    from werkzeug.exceptions import HTTPException

    directory = Path(rq_dashboard.__file__).parent
    app = Flask(__name__, static_folder=directory / "static", template_folder=None)
    app.jinja_loader = _Escaping(directory / "templates")
    app.config["RQ_DASHBOARD_REDIS_URL"] = ("the farm's Redis",)
    app.config["RQ_DASHBOARD_DISABLE_DELETE"] = True
    cast("Any", app).redis_conn = client
    app.register_blueprint(rq_dashboard.blueprint)
    # This hook connects to Redis again for each request.
    app.before_request_funcs.pop(rq_dashboard.blueprint.name, None)

    @app.before_request
    def _prepare_page() -> None:
        g.nonce = secrets.token_urlsafe(16)
        visitor = flask_request.environ["asgi.scope"]["state"]["visitor"]
        g.header = header(visitor, flask_request.environ["asgi.scope"]["path"])

    @app.after_request
    def _add_headers(response: FlaskResponse) -> FlaskResponse:
        response.headers["Content-Security-Policy"] = _POLICY.format(nonce=g.nonce)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        return response

    def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> FlaskResponse:
        request = Request(flask_request.environ["asgi.scope"])
        if not wants_page(request):
            return FlaskResponse(message, status, headers)
        page = bytes(error_page(request, status, message).body)
        return FlaskResponse(page, status, headers, content_type="text/html; charset=utf-8")

    @app.errorhandler(HTTPException)
    def _refused(reason: HTTPException) -> FlaskResponse | HTTPException:
        # Redirects are exceptions of this kind, too.
        if reason.code is None or reason.code < 400:
            return reason
        message = "There is no such page." if reason.code == 404 else reason.description or reason.name
        return error(reason.code, message)

    @app.errorhandler(NoSuchJobError)
    def _no_such_job(_error: Exception) -> FlaskResponse:
        return error(404, "The job no longer exists.")

    @app.errorhandler(InvalidJobOperation)
    def _not_failed(_error: Exception) -> FlaskResponse:
        return error(409, "The job has not failed, or it was requeued already.")

    @app.errorhandler(redis.RedisError)
    def _redis_failed(fault: Exception) -> FlaskResponse:
        logger.error("rq-dashboard: %s", describe(fault))
        return error(503, redis_message(fault), REDIS_HEADERS)

    return app
