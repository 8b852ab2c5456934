"""Whether the API can work, for whoever watches over it."""

import asyncio
from typing import Final

import redis
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from api.context import context_of
from api.errors import error_response

_SECONDS: Final = 2.0


async def _healthz(request: Request) -> Response:
    try:
        async with asyncio.timeout(_SECONDS):
            await context_of(request).waiting_redis.ping()
    except (redis.RedisError, OSError, TimeoutError):
        return error_response(503, "redis_unavailable", "Redis does not answer")
    return JSONResponse({"success": True, "data": {"redis": "ready"}}, headers={"Cache-Control": "no-store"})


health_routes: list[BaseRoute] = [Route("/healthz", _healthz, methods=["GET"])]
