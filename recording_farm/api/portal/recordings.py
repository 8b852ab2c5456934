"""The list of recordings, and the form that starts one."""

from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recording_farm.api.portal.client import ask
from recording_farm.api.portal.page import render
from recording_farm.api.portal.recording_form import SIZES, config_of, preset_choices
from recording_farm.api.portal.timeline import drawing_of
from recording_farm.api.portal.visitor import Form, RefusedError, Visitor, action, page, redirect
from recording_farm.farm.clock import now
from recording_farm.farm.recording.model import FINAL, Status

PER_PAGE: Final = 25

STATES: Final = {
    "active": "not ended yet",
    **{status.value: status.value.lower() for status in Status},
}
"""What the list can be narrowed to, in words."""

_UNFINISHED: Final = ",".join(status for status in Status if status not in FINAL)


async def _list(request: Request, visitor: Visitor) -> Response:
    asked = {name: text.strip() for name, text in request.query_params.items() if text.strip()}
    problem, answer = None, None
    try:
        answer = await ask(request, visitor, "GET", "/recordings", query=_query(asked))
    except RefusedError as error:
        problem = error
    recordings = answer.data if answer else []
    paging = (answer.paging if answer else None) or {"total_count": 0, "start_offset": 0, "end_offset": 0}
    return render(
        request,
        "recordings.html",
        problem.status if problem else 200,
        problem=problem.message if problem else None,
        recordings=[_row(recording, now()) for recording in recordings],
        asked=asked,
        states=STATES,
        paging=paging,
        before=_other_page(asked, -1) if _page_no(asked) > 1 else None,
        after=_other_page(asked, 1) if paging["end_offset"] < paging["total_count"] else None,
    )


def _query(asked: dict[str, str]) -> dict[str, Any]:
    """What the API is asked for; days are those of UTC."""
    query: dict[str, Any] = {"per_page": PER_PAGE, "page_no": _page_no(asked)}
    if "state" in asked:
        query["status"] = _UNFINISHED if asked["state"] == "active" else asked["state"]
    if "meeting" in asked:
        query["search"] = asked["meeting"]
    if "from" in asked:
        query["start_time"] = f"{asked['from']}T00:00:00Z"
    if "to" in asked:
        query["end_time"] = f"{asked['to']}T23:59:59.999Z"
    return query


def _page_no(asked: dict[str, str]) -> int:
    text = asked.get("page", "")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def _other_page(asked: dict[str, str], step: int) -> str:
    return "?" + urlencode(asked | {"page": str(_page_no(asked) + step)})


def _row(recording: dict[str, Any], present: datetime) -> dict[str, Any]:
    return recording | length_of(recording, present)


def length_of(recording: dict[str, Any], present: datetime) -> dict[str, Any]:
    """How long a recording is (`seconds`, None before its first take), and whether it is getting longer."""
    is_over = recording["status"] not in {Status.INVOKED, Status.RECORDING, Status.PAUSED}
    drawing = drawing_of(recording["timeline"], present, is_over=is_over)
    seconds = recording.get("recording_duration")
    if seconds is None and drawing is not None:
        seconds = drawing.recorded
    is_running = drawing is not None and drawing.is_running
    return {"seconds": seconds, "is_running": is_running}


async def _start_form(request: Request, visitor: Visitor) -> Response:
    return await _form(request, visitor, {"meeting_id": request.query_params.get("meeting", "")})


async def _start(request: Request, visitor: Visitor, form: Form) -> Response:
    body = config_of(form) | {"meeting_id": form.get("meeting_id", "")}
    if "webhooks" in form:
        body["webhooks"] = form["webhooks"].split()
    if "allow_multiple_recordings" in form:
        body["allow_multiple_recordings"] = True
    # Pressed twice, the button starts one recording.
    headers = {"Idempotency-Key": form["once"]} if "once" in form else None
    try:
        answer = await ask(request, visitor, "POST", "/recordings", body=body, headers=headers)
    except RefusedError as error:
        return await _form(request, visitor, form, error)
    return redirect(f"/recordings/{answer.data['id']}")


async def _form(
    request: Request, visitor: Visitor, form: Form, error: RefusedError | None = None
) -> Response:
    presets = await ask(request, visitor, "GET", "/storage/presets")
    return render(
        request,
        "start.html",
        error.status if error else 200,
        problem=error.message if error else None,
        form=form,
        sizes=SIZES,
        presets=preset_choices(presets.data),
        # A request that was refused may be mended, and is another one then.
        once=str(uuid4()),
    )


recordings_routes: Final[list[BaseRoute]] = [
    Route("/", page(_list), methods=["GET"]),
    Route("/start", page(_start_form), methods=["GET"]),
    Route("/start", action(_start), methods=["POST"]),
]
