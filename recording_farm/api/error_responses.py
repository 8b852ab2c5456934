"""Turns errors into responses: one envelope for all, without internal details of the farm."""

import logging
from collections.abc import Mapping
from typing import Any, Final, Literal

import redis
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from recording_farm.api.auth import CHALLENGE, SESSION_CHALLENGE
from recording_farm.api.error_types import ERROR_TYPES
from recording_farm.api.http_errors import (
    BusyError,
    RateLimitedError,
    SessionEndedError,
    TooManyDownloadsError,
    UnauthorizedError,
)
from recording_farm.farm.db.faults import describe, fault_of
from recording_farm.farm.errors import (
    FarmError,
    KeysUnavailableError,
    NameNotResolvedError,
    QuotaExceededError,
    RedisUnavailableError,
    TooManyStreamsError,
)

logger = logging.getLogger(__name__)

REDIS_HEADERS: Final = {"Retry-After": "2"}
"""In seconds. Each request tries Redis again, so a longer wait has no use."""


class ErrorObject(BaseModel):
    """An error: status and message."""

    code: int = Field(description="the HTTP status")
    message: str = Field(description="one sentence for people")


class TypedErrorObject(ErrorObject):
    """An error: status, message and type."""

    type: str = Field(
        description="the kind of error, stable, for programs; see docs/troubleshooting.md",
        json_schema_extra={"enum": list(ERROR_TYPES)},
    )


class ErrorAnswer(BaseModel):
    """The envelope of every error.

    `error` is the field of the recording API, `errors` the one that the clients of Cloudflare read; only
    `error` has the `type`.
    """

    success: Literal[False] = False
    error: TypedErrorObject
    errors: list[ErrorObject]


def error_response(
    status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error as a response; `kind` is its `type`."""
    answer = error_answer(status, kind, message)
    return JSONResponse(answer.model_dump(mode="json"), status, headers=dict(headers or {}))


def error_answer(status: int, kind: str, message: str) -> ErrorAnswer:
    """The content of an error response."""
    return ErrorAnswer(
        error=TypedErrorObject(code=status, message=message, type=kind),
        errors=[ErrorObject(code=status, message=message)],
    )


async def _farm_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FarmError)
    return error_response(error.http_status, error.code, error.message, _headers_of(error))


def _headers_of(error: FarmError) -> Mapping[str, str] | None:
    match error:
        case SessionEndedError():
            return SESSION_CHALLENGE
        case UnauthorizedError():
            return CHALLENGE
        case RateLimitedError():
            seconds = str(error.retry_after)
            return {
                "Retry-After": seconds,
                "RateLimit-Limit": str(error.limit),
                "RateLimit-Remaining": "0",
                "RateLimit-Reset": seconds,
            }
        case BusyError() | TooManyDownloadsError() | TooManyStreamsError() | QuotaExceededError():
            return {"Retry-After": str(error.retry_after)}
        case KeysUnavailableError() | NameNotResolvedError():
            return {"Retry-After": str(error.retry_after)}
        case RedisUnavailableError():
            return REDIS_HEADERS
        case _:
            return None


_HTTP_KINDS: Final = {404: "not_found", 405: "method_not_allowed"}
"""The types of Starlette's own errors."""


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # Not by HTTPStatus, whose names differ between versions of Python.
    kind = _HTTP_KINDS.get(error.status_code, "invalid_request")
    messages = {
        404: f"{request.url.path} does not exist",
        405: f"{request.url.path} does not allow {request.method}",
    }
    message = messages.get(error.status_code, error.detail)
    return error_response(error.status_code, kind, message, error.headers)


async def _redis_error(request: Request, error: Exception) -> Response:
    logger.error("%s %s: %s", request.method, request.url.path, describe(error))
    return error_response(503, "redis_unavailable", redis_message(error), REDIS_HEADERS)


def redis_message(error: Exception) -> str:
    """The message for clients when Redis cannot serve a request."""
    return f"the farm's database {fault_of(error).sentence}; try again later"


async def _disconnected(_request: Request, _error: Exception) -> Response:
    # Nobody reads it, but the server needs a response.
    return error_response(
        400, "disconnected", "the client closed the connection before the whole body arrived"
    )


async def _unexpected(_request: Request, _error: Exception) -> Response:
    # The server logs the error with its traceback; clients get no internal details.
    return error_response(500, "internal_error", "internal error; see the farm's log")


EXCEPTION_HANDLERS: dict[Any, ExceptionHandler] = {
    FarmError: _farm_error,
    HTTPException: _http_error,
    redis.RedisError: _redis_error,
    ClientDisconnect: _disconnected,
    Exception: _unexpected,
}
"""The app's handlers: the response for each kind of exception."""
