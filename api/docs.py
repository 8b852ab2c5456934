"""`/openapi.json`, and `/docs`, the same for people."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from api.openapi import openapi_document
from api.operations import Operation


def document_routes(operations: Sequence[Operation]) -> list[BaseRoute]:
    """The routes of the document that describes `operations`."""
    document = JSONResponse(openapi_document(operations))

    async def openapi(_request: Request) -> Response:
        return document

    return [Route("/openapi.json", openapi, methods=["GET"])]
