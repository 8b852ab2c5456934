"""The farm's metrics, for Prometheus.

Access needs FARM_METRICS_TOKEN. The client's address is no criterion, because all clients of a reverse proxy
share one, and an organization's key must not reveal other organizations' data.
"""

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.context import context_of
from recording_farm.api.error_responses import error_response
from recording_farm.api.operations import ROOT, Operation
from recording_farm.farm.telemetry.metrics import FarmCollector, may_read

_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="metrics"'}


async def _metrics(request: Request) -> Response:
    context = context_of(request)
    if not may_read(context.settings, request.headers.get("authorization")):
        problem = "is not set" if context.settings.metrics_token is None else "does not match"
        message = f"metrics need the bearer token FARM_METRICS_TOKEN, which {problem}"
        return error_response(401, "unauthorized", message, _CHALLENGE)
    registry = CollectorRegistry()
    registry.register(FarmCollector(context.redis))
    ProcessCollector(registry=registry)
    text = await run_in_threadpool(generate_latest, registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


metrics_operations: Final = (
    Operation(
        "metrics",
        "GET",
        "/metrics",
        _metrics,
        "The farm's metrics, for Prometheus",
        "farm",
        media_types=(CONTENT_TYPE_LATEST.split(";")[0],),
        errors=(401,),
        dialects=(ROOT,),
        public=True,
    ),
)
