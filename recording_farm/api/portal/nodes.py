"""The nodes page, for administrators: the state and the free resources of each node, and its Drain button."""

from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recording_farm.api.context import context_of
from recording_farm.api.portal.page import render
from recording_farm.api.portal.visitor import Form, Visitor, action, check_administrator, page, redirect
from recording_farm.farm.clock import now
from recording_farm.farm.errors import NotFoundError
from recording_farm.farm.nodes.availability import state_of
from recording_farm.farm.nodes.registry import GONE_AFTER, Node, Nodes
from recording_farm.farm.queues.recordings import count_waiting


async def _show(request: Request, visitor: Visitor) -> Response:
    check_administrator(visitor)
    client = context_of(request).redis
    nodes = await run_in_threadpool(Nodes(client).all)
    waiting = await run_in_threadpool(count_waiting, client)
    return render(
        request, "nodes.html", problem=None, nodes=[_shown(node) for node in nodes], waiting=waiting
    )


def _shown(node: Node) -> dict[str, Any]:
    condition = node.beat.condition
    is_silent = (now() - node.beat.time).total_seconds() > GONE_AFTER
    return {
        "name": node.name,
        "slots": node.beat.slots,
        "heard": node.beat.time,
        "state": "gone" if node.gone is not None or is_silent else state_of(node),
        "no_room": node.beat.no_room,
        "is_drained": node.drained,
        "condition": condition,
        "disk_used": 1 - condition.disk_free / condition.disk_size if condition else None,
    }


async def _drain(request: Request, visitor: Visitor, form: Form) -> Response:
    check_administrator(visitor)
    nodes = Nodes(context_of(request).redis)
    name = form.get("node", "")
    if not any(node.name == name for node in await run_in_threadpool(nodes.all)):
        raise NotFoundError(f"there is no node {name}")
    is_wanted = form.get("drain") == "yes"
    await run_in_threadpool(nodes.drain if is_wanted else nodes.undrain, name)
    return redirect(f"/nodes?done={'drained' if is_wanted else 'undrained'}")


node_routes: Final[list[BaseRoute]] = [
    Route("/nodes", page(_show), methods=["GET"]),
    Route("/nodes/drain", action(_drain), methods=["POST"]),
]
