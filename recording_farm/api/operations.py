"""The API's operations, each declared once; routes and the OpenAPI document are made from the declarations.

The same handler serves an operation in both dialects of the recording API, Dyte's and Cloudflare
RealtimeKit's. Clients need an API key unless the operation is public. RealtimeKit's account and app may be
any: the key alone identifies the organization.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from recording_farm.api.auth import admit
from recording_farm.api.request_log import bind_recording

DYTE: Final = "/v2"
REALTIMEKIT: Final = "/client/v4/accounts/{account_id}/realtime/kit/{app_id}"
DIALECTS: Final = (DYTE, REALTIMEKIT)
ROOT: Final = ""
"""The prefix of operations that belong to no dialect."""

ACCOUNT_OR_APP: Final = "^[A-Za-z0-9_-]{1,64}$"
"""The ids of accounts and apps, as a regular expression."""

JSON: Final = "application/json"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """One operation of the API.

    `path` follows the dialect's prefix. `body`, `query` and `headers` (by their aliases) are the models that
    validate the request, `answer` is the model of `data` in the response; a `paged` response also has
    `paging`. A response that is not the usual JSON has `media_types` and no `answer`; an operation that the
    farm always rejects has no `status`. `errors` are the statuses it can fail with; every operation that is
    not `public` needs credentials, and can also fail with 401, 403, 429 and 503. With `hosts` it also accepts
    the token of a built-in meeting's host, with `participants` that of a meeting's participant; its handler
    must then check the meeting. With `for_any_origin`, pages of any origin may read the response, see
    `api.cors`.
    """

    id: str
    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    answer: Any = None
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    headers: type[BaseModel] | None = None
    paged: bool = False
    status: int | None = 200
    errors: tuple[int, ...] = ()
    media_types: tuple[str, ...] = (JSON,)
    dialects: tuple[str, ...] = DIALECTS
    public: bool = False
    hosts: bool = False
    participants: bool = False
    for_any_origin: bool = False


def routes_of(operations: Iterable[Operation]) -> list[BaseRoute]:
    """The routes of operations in their dialects; where paths overlap, the first declaration wins."""
    by_path: dict[str, dict[str, Operation]] = {}
    for dialect in (*DIALECTS, ROOT):
        for operation in operations:
            if dialect in operation.dialects:
                by_path.setdefault(dialect + operation.path, {})[operation.method] = operation
    return [_Path(path, _by_method(methods), methods=list(methods)) for path, methods in by_path.items()]


class _Path(Route):
    """A path with its methods. Any other method is a 405, even if a later path would match it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL else match), child_scope


def _by_method(operations: dict[str, Operation]) -> Handler:
    async def handle(request: Request) -> Response:
        _check_dialect(request)
        bind_recording(request.path_params)
        # Starlette accepts HEAD for every GET.
        operation = operations["GET" if request.method == "HEAD" else request.method]
        if not operation.public:
            await admit(request, hosts=operation.hosts, participants=operation.participants)
        return await operation.handler(request)

    return handle


def _check_dialect(request: Request) -> None:
    named = (request.path_params.get(name) for name in ("account_id", "app_id"))
    if any(name is not None and not re.fullmatch(ACCOUNT_OR_APP, name) for name in named):
        raise HTTPException(404)
