"""`/openapi.json`, and `/docs`, which shows it with Swagger UI.

Swagger UI is a file of the package flask-swagger-ui, of which nothing else is used. The page loads only what
the farm itself serves, and sends what is tried on it only there.
"""

from functools import cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from recording_farm.api.docs.openapi import openapi_document, with_servers
from recording_farm.api.operations import Operation
from recording_farm.api.static_files import PageFiles

_ASSETS: Final = Path(__file__).parent / "assets"
_SWAGGER_UI: Final = ("flask_swagger_ui", "dist")
"""The package and the folder in it that has Swagger UI and its license."""

_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",  # Swagger UI's style sheet has its icons in it
    "connect-src 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
)
_HEADERS: Final = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


_document = cache(openapi_document)
"""A fifth of a second, and the same for every app of a process."""


def document_routes(operations: tuple[Operation, ...], base_url: str) -> list[BaseRoute]:
    """The routes of the document that describes `operations`, which lie below `base_url`, and of its page."""
    json = JSONResponse(with_servers(_document(operations), base_url))

    async def openapi(_request: Request) -> Response:
        return json

    return [
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/docs", _docs, methods=["GET"]),
        Mount("/docs-assets", PageFiles(_ASSETS, _HEADERS, packages=[_SWAGGER_UI]), name="docs-assets"),
    ]


async def _docs(_request: Request) -> Response:
    headers = {**_HEADERS, "Cache-Control": "no-cache"}
    return FileResponse(_ASSETS / "docs.html", media_type="text/html", headers=headers)
