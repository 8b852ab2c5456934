"""`/openapi.json`, and `/docs`, which shows it with Swagger UI.

Swagger UI comes from the package flask-swagger-ui; nothing else of that package is used. The page loads files
only from the farm, and "Try it out" sends requests only there.
"""

from functools import cache, lru_cache
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
"""The package and its folder with Swagger UI and the license."""

_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",  # icons in the style sheet of Swagger UI
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


_document_of = cache(openapi_document)


@lru_cache(maxsize=4)
def _document(operations: tuple[Operation, ...], base_url: str) -> Response:
    """The document as a response: it takes 0.2 s to make, and never changes in a process."""
    return JSONResponse(with_servers(_document_of(operations), base_url))


def document_routes(operations: tuple[Operation, ...], base_url: str) -> list[BaseRoute]:
    """Routes of the OpenAPI document of `operations` below `base_url`, and of the page that shows it."""
    document = _document(operations, base_url)

    async def openapi(_request: Request) -> Response:
        return document

    return [
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/docs", _docs, methods=["GET"]),
        Mount("/docs-assets", PageFiles(_ASSETS, _HEADERS, packages=[_SWAGGER_UI]), name="docs-assets"),
    ]


async def _docs(_request: Request) -> Response:
    headers = {**_HEADERS, "Cache-Control": "no-cache"}
    return FileResponse(_ASSETS / "docs.html", media_type="text/html", headers=headers)
