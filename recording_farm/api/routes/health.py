"""Liveness probe: whether the API runs and Redis answers.

A Redis that answers but rejects writes, for example because it is full, is no reason for a restart: reading
and stopping still work. `/readyz` (`api.routes.readiness`) reports whether everything works.
"""

import asyncio
from typing import Final, Literal

import redis
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.context import context_of
from recording_farm.api.error_responses import error_response
from recording_farm.api.operations import ROOT, Operation
from recording_farm.api.schema.responses import success
from recording_farm.farm.db.faults import fault_of

_SECONDS: Final = 2.0


class Health(BaseModel):
    """State of the services that the API needs."""

    redis: Literal["ready"] = "ready"


async def _healthz(request: Request) -> Response:
    try:
        async with asyncio.timeout(_SECONDS):
            await context_of(request).waiting_redis.ping()
    except redis.ResponseError:
        pass  # it answers: a Redis that cannot save (MISCONF) rejects even PING
    except (redis.RedisError, OSError, TimeoutError) as error:
        return error_response(503, "redis_unavailable", f"Redis {fault_of(error).sentence}")
    return success(Health())


health_operations: Final = (
    Operation(
        "health",
        "GET",
        "/healthz",
        _healthz,
        "Whether the API runs and Redis answers",
        "farm",
        answer=Health,
        errors=(503,),
        dialects=(ROOT,),
        public=True,
    ),
)
