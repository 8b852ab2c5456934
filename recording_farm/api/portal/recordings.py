"""The list of recordings, and the form that starts one."""

import json
import shlex
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recording_farm.api.context import context_of
from recording_farm.api.portal.client import ask, segment
from recording_farm.api.portal.page import render
from recording_farm.api.portal.recording_form import PROFILES, SIZES, preset_choices, start_body
from recording_farm.api.portal.recording_words import (
    quality_warning,
    queue_in_words,
    state_in_words,
    upload_warning,
)
from recording_farm.api.portal.timeline import drawing_of
from recording_farm.api.portal.visitor import Form, RefusedError, Visitor, action, page, redirect
from recording_farm.farm.clock import now, time_text
from recording_farm.farm.errors import AlreadyRecordingError
from recording_farm.farm.recording.model import FINAL, Status

PER_PAGE: Final = 25

STATES: Final = {
    "active": "not ended yet",
    **{status.value: status.value.lower() for status in Status},
    "EXPIRED": "expired",
}
"""The states the list can be filtered by, in words."""

_UNFINISHED: Final = ",".join(status for status in Status if status not in FINAL)


async def _list(request: Request, visitor: Visitor) -> Response:
    asked = {name: text.strip() for name, text in request.query_params.items() if text.strip()}
    problem, answer = None, None
    try:
        answer = await ask(request, visitor, "GET", "/recordings", query=api_query(asked))
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
        is_filtered=bool(asked.keys() & {"state", "search", "meeting", "from", "to"}),
        states=STATES,
        paging=paging,
        last_page=max(1, -(-paging["total_count"] // PER_PAGE)),
        page_no=_page_no(asked),
        first="?" + urlencode({name: text for name, text in asked.items() if name != "page"}),
        before=_other_page(asked, -1) if _page_no(asked) > 1 and recordings else None,
        after=_other_page(asked, 1) if 0 < paging["end_offset"] < paging["total_count"] else None,
    )


def api_query(asked: Mapping[str, str]) -> dict[str, Any]:
    """The filter as the API's query; its days are those of the browser's time zone, else of UTC."""
    query: dict[str, Any] = {"per_page": PER_PAGE, "page_no": _page_no(asked)}
    state = asked.get("state")
    if state == "EXPIRED":
        query |= {"status": Status.UPLOADED, "expired": True}
    elif state == Status.UPLOADED:
        query |= {"status": Status.UPLOADED, "expired": False}
    elif state is not None:
        query["status"] = _UNFINISHED if state == "active" else state
    # `meeting` is in links of older versions.
    if search := asked.get("search", asked.get("meeting")):
        query["search"] = search
    zone = zone_of(asked.get("zone", ""))
    if "from" in asked:
        query["start_time"] = _day(asked["from"], zone, is_end=False)
    if "to" in asked:
        query["end_time"] = _day(asked["to"], zone, is_end=True)
    return query


def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name; UTC for a name that this machine does not know."""
    try:
        return ZoneInfo(name) if name else UTC
    except (OSError, ValueError, KeyError):
        return UTC


def _day(text: str, zone: tzinfo, *, is_end: bool) -> str:
    """The first or last millisecond of a day; text that is no day stays, and the API refuses it."""
    try:
        day = date.fromisoformat(text)
        if is_end:
            following = datetime.combine(day + timedelta(days=1), time(), zone)
            return time_text(following - timedelta(milliseconds=1))
        return time_text(datetime.combine(day, time(), zone))
    except (ValueError, OverflowError):
        return text


def _page_no(asked: Mapping[str, str]) -> int:
    text = asked.get("page", "")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def _other_page(asked: dict[str, str], step: int) -> str:
    return "?" + urlencode(asked | {"page": str(_page_no(asked) + step)})


def _row(recording: dict[str, Any], present: datetime) -> dict[str, Any]:
    state = state_in_words(recording)
    return (
        recording
        | length_of(recording, present)
        | {
            "state": state,
            "queue": queue_in_words(recording),
            "warnings": [text for text in (quality_warning(recording), upload_warning(recording)) if text],
        }
    )


def length_of(recording: dict[str, Any], present: datetime) -> dict[str, Any]:
    """The length of a recording (`seconds`, None before its first take), and whether it grows.

    The takes have the exact length of the file: the player, too, shows only the seconds that are complete.
    `recording_duration` is rounded.
    """
    is_over = recording["status"] not in {Status.INVOKED, Status.RECORDING, Status.PAUSED}
    drawing = drawing_of(recording["timeline"], present, is_over=is_over)
    in_file = sum(take["duration_ns"] for take in recording["takes"])
    seconds = in_file / 1e9 if in_file else recording.get("recording_duration")
    if seconds is None and drawing is not None:
        seconds = drawing.recorded
    is_running = drawing is not None and drawing.is_running
    return {"seconds": seconds, "is_running": is_running}


async def _start_form(request: Request, visitor: Visitor) -> Response:
    return await _form(request, visitor, {"meeting_id": request.query_params.get("meeting", "")})


async def _start(request: Request, visitor: Visitor, form: Form) -> Response:
    body = start_body(form)
    if "as_curl" in form:
        return await _form(request, visitor, form, curl=_curl(context_of(request).settings.base_url, body))
    # Pressed twice, the button starts one recording.
    headers = {"Idempotency-Key": form["once"]} if "once" in form else None
    try:
        answer = await ask(request, visitor, "POST", "/recordings", body=body, headers=headers)
    except RefusedError as error:
        return await _form(request, visitor, form, error)
    return redirect(f"/recordings/{answer.data['id']}")


async def _form(
    request: Request,
    visitor: Visitor,
    form: Form,
    error: RefusedError | None = None,
    curl: str | None = None,
) -> Response:
    presets = await ask(request, visitor, "GET", "/storage/presets")
    active = await _active(request, visitor, form) if _is_duplicate(error) else None
    return render(
        request,
        "start.html",
        error.status if error else 200,
        problem=error.message if error and active is None else None,
        active=active,
        curl=curl,
        form=form,
        sizes=SIZES,
        profiles=PROFILES,
        presets=preset_choices(presets.data),
        retention=context_of(request).settings.retention,
        # A request that was refused may be corrected, and is another one then.
        once=str(uuid4()),
    )


def _is_duplicate(error: RefusedError | None) -> bool:
    return error is not None and error.type == AlreadyRecordingError.code


async def _active(request: Request, visitor: Visitor, form: Form) -> dict[str, Any] | None:
    """The recording of the form's meeting that is active now; None if it has just ended."""
    path = f"/recordings/active-recording/{segment(form.get('meeting_id', ''))}"
    try:
        active: dict[str, Any] = (await ask(request, visitor, "GET", path)).data
    except RefusedError:
        return None
    return active


def _curl(base_url: str, body: dict[str, Any]) -> str:
    """A shell command that starts the recording of a form by the API."""
    return " \\\n  ".join(
        (
            f"curl {shlex.quote(f'{base_url}/v2/recordings')}",
            '-H "Authorization: Bearer $FARM_API_KEY"',
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}",
        )
    )


recordings_routes: Final[list[BaseRoute]] = [
    Route("/", page(_list), methods=["GET"]),
    Route("/start", page(_start_form), methods=["GET"]),
    Route("/start", action(_start), methods=["POST"]),
]
