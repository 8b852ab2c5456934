"""`/openapi.json`, and `/docs`, the same for people."""

import base64
import hashlib
from functools import cache
from typing import Final

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from api.docs.openapi import openapi_document, with_servers
from api.docs.page import STYLE, docs_page
from api.operations import Operation

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


# The same for every app of a process.
_document = cache(openapi_document)


def document_routes(operations: tuple[Operation, ...], base_url: str) -> list[BaseRoute]:
    """The routes of the document that describes `operations`, which lie below `base_url`.

    To make the answers takes a third of a second, so they are made when they are first wanted, on a thread.
    """

    @cache
    def json() -> Response:
        return JSONResponse(with_servers(_document(operations), base_url))

    @cache
    def page() -> Response:
        return HTMLResponse(
            docs_page(with_servers(_document(operations), base_url), base_url), headers=_HEADERS
        )

    async def openapi(_request: Request) -> Response:
        return await to_thread.run_sync(json)

    async def docs(_request: Request) -> Response:
        return await to_thread.run_sync(page)

    return [Route("/openapi.json", openapi, methods=["GET"]), Route("/docs", docs, methods=["GET"])]
