"""Built-in meetings: a new one with its links, and its people and recording now."""

import ipaddress
from datetime import datetime
from typing import Any, Final
from urllib.parse import urldefrag, urlsplit
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recording_farm.api.context import context_of
from recording_farm.api.meeting.ids import new_meeting_id
from recording_farm.api.meeting.page import is_demo
from recording_farm.api.meeting.rooms import MAX_PEOPLE
from recording_farm.api.portal.client import ask, segment
from recording_farm.api.portal.page import render
from recording_farm.api.portal.visitor import Form, RefusedError, Visitor, action, page, redirect


async def _show_meetings(request: Request, _visitor: Visitor) -> Response:
    if meeting_id := request.query_params.get("id", "").strip():
        return redirect(f"/meetings/{segment(meeting_id)}")
    return render(request, "meetings.html", problem=None, max_people=MAX_PEOPLE)


async def _make_meeting(_request: Request, _visitor: Visitor, _form: Form) -> Response:
    return redirect(f"/meetings/{new_meeting_id()}")


async def _show_meeting(request: Request, visitor: Visitor) -> Response:
    meeting_id = request.path_params["meeting_id"]
    # The farm stores nothing about a host link, so that a reload may make another one.
    link = (await ask(request, visitor, "POST", f"/meetings/{segment(meeting_id)}/host_link")).data
    return render(
        request,
        "meeting.html",
        problem=None,
        meeting_id=meeting_id,
        is_demo=is_demo(meeting_id, ""),
        guest_link=urldefrag(link["url"]).url,
        host_link=link["url"],
        host_link_expires=datetime.fromisoformat(link["expiry"]),
        is_local=is_loopback(urlsplit(link["url"]).hostname or ""),
        people=context_of(request).rooms.people_in(meeting_id),
        recording=await _active_recording(request, visitor, meeting_id),
        once=str(uuid4()),
    )


async def _active_recording(request: Request, visitor: Visitor, meeting_id: str) -> Any:
    """The running recording of a meeting; None if there is none."""
    try:
        return (
            await ask(request, visitor, "GET", f"/recordings/active-recording/{segment(meeting_id)}")
        ).data
    except RefusedError as error:
        if error.status != 404:
            raise
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can open links to a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


meeting_page_routes: Final[list[BaseRoute]] = [
    Route("/meetings", page(_show_meetings), methods=["GET"]),
    Route("/meetings", action(_make_meeting), methods=["POST"]),
    Route("/meetings/{meeting_id:path}", page(_show_meeting), methods=["GET"]),
]
