"""The API's operations, each declared once: its routes and its place in the OpenAPI document come of that.

Every operation is served under two dialects of the recording API, Dyte's and Cloudflare RealtimeKit's, by the
same handler, to clients with an API key. Of the latter dialect's account and app any is taken: the key alone
says whose organisation it is.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.auth import admit

DYTE: Final = "/v2"
REALTIMEKIT: Final = "/client/v4/accounts/{account_id}/realtime/kit/{app_id}"
DIALECTS: Final = (DYTE, REALTIMEKIT)

_ACCOUNT_OR_APP: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """One thing a client can ask for.

    `path` is what follows the dialect's prefix. `body` and `query` are the models that validate what is sent,
    `answer` is that of `data` in the answer, None if there is none; a `paged` answer has `paging` besides.
    `errors` are the statuses it can fail with besides 401, 429 and 503, which every operation can.
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
    paged: bool = False
    status: int = 200
    errors: tuple[int, ...] = ()


def routes_of(operations: Iterable[Operation]) -> list[BaseRoute]:
    """The routes of operations in both dialects; where paths overlap, those declared first come first."""
    by_path: dict[str, dict[str, Handler]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation.handler
    return [
        Route(f"{dialect}{path}", _by_method(handlers), methods=list(handlers))
        for dialect in DIALECTS
        for path, handlers in by_path.items()
    ]


def _by_method(handlers: dict[str, Handler]) -> Handler:
    async def handle(request: Request) -> Response:
        _check_dialect(request)
        await admit(request)
        # Starlette answers HEAD wherever there is a GET.
        method = "GET" if request.method == "HEAD" else request.method
        return await handlers[method](request)

    return handle


def _check_dialect(request: Request) -> None:
    named = (request.path_params.get(name) for name in ("account_id", "app_id"))
    if any(name is not None and not _ACCOUNT_OR_APP.fullmatch(name) for name in named):
        raise HTTPException(404)
