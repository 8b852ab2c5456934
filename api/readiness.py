"""Whether the farm is ready to record: Redis answers, the store takes files, and there is a node.

Anybody may ask, so what the answer costs is bounded (`api.store_watch`), and why something is not ready is
told in the log alone.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final, Literal

import redis
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.context import Context, context_of
from api.errors import error_answer
from api.operations import ROOT, Operation
from api.responses import success
from farm.metrics import living
from farm.nodes import Nodes

_SECONDS: Final = 5.0
"""In which each part must answer."""

State = Literal["ready", "failed"]


class Readiness(BaseModel):
    """What recordings need, and how it is."""

    redis: State
    store: State
    nodes: State


async def _readyz(request: Request) -> Response:
    context = context_of(request)
    states = await asyncio.gather(
        _state(_redis(context)), _state(context.store_watch.is_ready()), _state(_nodes(context))
    )
    readiness = Readiness(redis=states[0], store=states[1], nodes=states[2])
    if set(states) == {"ready"}:
        return success(readiness)
    checks = readiness.model_dump(mode="json")
    missing = ", ".join(name for name, state in checks.items() if state != "ready")
    answer = error_answer(503, "not_ready", f"not ready: {missing}")
    content = {**answer.model_dump(mode="json"), "data": checks}
    return JSONResponse(content, 503, headers={"Cache-Control": "no-store"})


async def _state(check: Awaitable[bool]) -> State:
    try:
        async with asyncio.timeout(_SECONDS):
            return "ready" if await check else "failed"
    except (redis.RedisError, OSError, TimeoutError):
        return "failed"


async def _redis(context: Context) -> bool:
    return bool(await context.waiting_redis.ping())


async def _nodes(context: Context) -> bool:
    return await asyncio.to_thread(_any_node, Nodes(context.redis))


def _any_node(nodes: Nodes) -> bool:
    return bool(living(nodes.all()))


readiness_operations: Final = (
    Operation(
        "readiness",
        "GET",
        "/readyz",
        _readyz,
        "Whether the farm is ready to record",
        "farm",
        answer=Readiness,
        errors=(503,),
        dialects=(ROOT,),
        public=True,
    ),
)
