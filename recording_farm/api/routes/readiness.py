"""`/readyz`: whether this API works: Redis accepts and persists writes, and the store accepts files.

It also counts the nodes that accept recordings and those that do not, by reason, and lists settings that
differ between machines. These do not change the status 200: without nodes recordings wait, and during the
change of a secret all APIs would be unready at once. Alerts use the metrics instead.

It needs no key, so the cost of a response is bounded (`api.services.store_watch`,
`api.services.redis_watch`), and it has no names of nodes. It names the fault of Redis; the fault of the store
is only in the log.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeVar

import redis
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from recording_farm.api.context import Context, context_of
from recording_farm.api.error_responses import error_answer
from recording_farm.api.operations import ROOT, Operation
from recording_farm.api.schema.responses import success
from recording_farm.farm.db.faults import RedisFault
from recording_farm.farm.nodes.availability import living
from recording_farm.farm.nodes.registry import Node, Nodes
from recording_farm.farm.telemetry.shared_settings import differing_settings

_SECONDS: Final = 5.0
"""Time-out of each part."""

State = Literal["ready", "failed"]
T = TypeVar("T")


class Readiness(BaseModel):
    """The state of Redis, the store and the nodes."""

    redis: State
    redis_fault: RedisFault | None = Field(default=None, description="the fault of Redis; null if it works")
    store: State
    differing_settings: list[str] | None = Field(
        description="settings that must be the same on all machines, and are not; null if unknown"
    )
    recording_nodes: int | None = Field(
        description="nodes that accept recordings, with a free slot or without; null if unknown"
    )
    refusing_nodes: dict[str, int] | None = Field(
        description="the others by reason: `disk`, `memory`, `load`, `drained`, `draining` or `gone`"
    )


async def _readyz(request: Request) -> Response:
    context = context_of(request)
    fault, store_state, nodes, differing = await asyncio.gather(
        _redis_fault(context),
        _state(context.store_watch.is_ready()),
        _read(context, lambda client: Nodes(client).all()),
        _read(context, differing_settings),
    )
    redis_state: State = "ready" if fault is None else "failed"
    readiness = Readiness(
        redis=redis_state,
        redis_fault=fault,
        store=store_state,
        differing_settings=differing,
        recording_nodes=None if nodes is None else sum(node.refusal is None for node in living(nodes)),
        refusing_nodes=None if nodes is None else _refusing(nodes),
    )
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


async def _read(context: Context, read: Callable[[redis.Redis], T]) -> T | None:
    try:
        async with asyncio.timeout(_SECONDS):
            return await asyncio.to_thread(read, context.redis)
    except (redis.RedisError, OSError, TimeoutError):
        return None


def _refusing(nodes: Sequence[Node]) -> dict[str, int]:
    refusals = Counter(node.refusal for node in living(nodes) if node.refusal is not None)
    gone = sum(node.gone is not None for node in nodes)
    return dict(sorted(refusals.items())) | ({"gone": gone} if gone else {})


readiness_operations: Final = (
    Operation(
        "readiness",
        "GET",
        "/readyz",
        _readyz,
        "Whether the API can do its work, and how many nodes accept recordings",
        "farm",
        answer=Readiness,
        errors=(503,),
        dialects=(ROOT,),
        public=True,
    ),
)
