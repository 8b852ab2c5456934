"""Whether this API can do its work, that is: Redis takes writes and keeps them, and the store takes files.

It also tells how many nodes take recordings. That there are none is no reason to send requests elsewhere:
what is asked for waits, and every other API would say the same. It is the metrics' part to alarm somebody.

Anybody may ask, so what the answer costs is bounded (`api.services.store_watch`, `api.services.redis_watch`).
The answer says which kind of fault Redis has; why the store takes no files is told in the log alone.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final, Literal

import redis
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from recording_farm.api.context import Context, context_of
from recording_farm.api.error_responses import error_answer
from recording_farm.api.operations import ROOT, Operation
from recording_farm.api.schema.responses import success
from recording_farm.farm.db.faults import RedisFault
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.telemetry.metrics import NodeState, living

_SECONDS: Final = 5.0
"""In which each part must answer."""

State = Literal["ready", "failed"]


class Readiness(BaseModel):
    """What the API needs, and how it is."""

    redis: State
    redis_fault: RedisFault | None = Field(
        default=None, description="what keeps the farm from working with Redis; null if nothing does"
    )
    store: State
    recording_nodes: int | None
    """How many nodes begin recordings: that live, and are neither drained nor draining; null if unknown."""


async def _readyz(request: Request) -> Response:
    context = context_of(request)
    fault, store_state, nodes = await asyncio.gather(
        _redis_fault(context), _state(context.store_watch.is_ready()), _recording_nodes(context)
    )
    redis_state: State = "ready" if fault is None else "failed"
    readiness = Readiness(redis=redis_state, redis_fault=fault, store=store_state, recording_nodes=nodes)
    reasons = [] if fault is None else [f"Redis {fault.sentence}"]
    reasons += [] if store_state == "ready" else ["the store takes no files"]
    if not reasons:
        return success(readiness)
    answer = error_answer(503, "not_ready", f"not ready: {'; '.join(reasons)}")
    content = {**answer.model_dump(mode="json"), "data": readiness.model_dump(mode="json")}
    return JSONResponse(content, 503, headers={"Cache-Control": "no-store"})


async def _state(check: Awaitable[bool]) -> State:
    try:
        async with asyncio.timeout(_SECONDS):
            return "ready" if await check else "failed"
    except (redis.RedisError, OSError, TimeoutError):
        return "failed"


async def _redis_fault(context: Context) -> RedisFault | None:
    try:
        async with asyncio.timeout(_SECONDS):
            return await context.redis_watch.fault()
    except TimeoutError:
        return RedisFault.AWAY


async def _recording_nodes(context: Context) -> int | None:
    try:
        async with asyncio.timeout(_SECONDS):
            nodes = await asyncio.to_thread(Nodes(context.redis).all)
    except (redis.RedisError, OSError, TimeoutError):
        return None
    return sum(node.state is NodeState.ALIVE for node in living(nodes))


readiness_operations: Final = (
    Operation(
        "readiness",
        "GET",
        "/readyz",
        _readyz,
        "Whether the API can do its work, and how many nodes take recordings",
        "farm",
        answer=Readiness,
        errors=(503,),
        dialects=(ROOT,),
        public=True,
    ),
)
