"""The page of one recording: player, timeline, quality, transfers, webhooks, and its commands."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recording_farm.api.context import Context, context_of
from recording_farm.api.portal.client import ask, fetch, segment
from recording_farm.api.portal.page import render
from recording_farm.api.portal.recording_words import (
    copy_in_words,
    finding_in_words,
    lost_share,
    queue_in_words,
    state_in_words,
    stop_in_words,
    times_in_words,
)
from recording_farm.api.portal.recordings import length_of
from recording_farm.api.portal.timeline import drawing_of
from recording_farm.api.portal.visitor import Form, RefusedError, Visitor, action, page, redirect
from recording_farm.api.schema.webhooks import LogObject, log_object
from recording_farm.farm.clock import now
from recording_farm.farm.recording.commands import Command
from recording_farm.farm.recording.model import ACTIVE, FINAL, Status
from recording_farm.farm.recording.transfers import STORE, TransferState

MAX_ATTEMPTS: Final = 50

_NO_PICTURE: Final = (Path(__file__).parent / "assets" / "no-picture.svg").read_bytes()

_COMMANDS: Final = {
    Status.INVOKED: (Command.STOP,),
    Status.RECORDING: (Command.PAUSE, Command.STOP),
    Status.PAUSED: (Command.RESUME, Command.STOP),
}
"""The buttons in each state; the API decides what is allowed."""


_REACHED: Final[Mapping[str, frozenset[Status]]] = {
    Command.PAUSE: frozenset({Status.PAUSED}),
    Command.RESUME: frozenset({Status.RECORDING}),
    Command.STOP: frozenset({Status.UPLOADING, Status.UPLOADED}),
}
"""The states that show that a command was executed."""


class Media(NamedTuple):
    """The file that the player plays: its address, and its origin if that is not the farm's."""

    url: str
    origin: str
    is_video: bool


async def _show(request: Request, visitor: Visitor) -> Response:
    return await _page(request, visitor, None)


async def _page(request: Request, visitor: Visitor, error: RefusedError | None) -> Response:
    context = context_of(request)
    recording = (await ask(request, visitor, "GET", _path(request))).data
    presets = (await ask(request, visitor, "GET", "/storage/presets")).data
    evidence = await fetch(request, visitor, "HEAD", f"{_path(request)}/evidence")
    attempts = await run_in_threadpool(_attempts, context, visitor.organization_id, recording)
    present, status = now(), Status(recording["status"])
    media = media_of(recording, context.settings.base_url)
    return render(
        request,
        "recording.html",
        error.status if error else 200,
        address=_path(request),
        media=media.origin if media else "",
        problem=error.message if error else None,
        recording=recording | length_of(recording, present),
        drawing=drawing_of(
            recording["timeline"],
            present,
            is_over=status not in ACTIVE,
            in_file=recording["takes"],
            file_seconds=recording.get("recording_duration"),
        ),
        commands=_COMMANDS.get(status, ()),
        words=_words(recording),
        retention=context.settings.retention,
        is_live=status in {Status.RECORDING, Status.PAUSED},
        is_final=status in FINAL,
        player=media,
        sound=link_of(recording["audio_download_url"] or "", context.settings.base_url),
        start_at=_start_at(request),
        presets=[preset["name"] for preset in presets],
        can_retry=can_retry(recording),
        has_evidence=evidence.status_code == 200,
        attempts=attempts,
    )


def media_of(recording: dict[str, Any], base_url: str) -> Media | None:
    """The file that the player plays; None while there is none."""
    url = recording["download_url"] or recording["audio_download_url"]
    if url is None:
        return None
    is_video = recording["video_config"] is not None
    link = link_of(url, base_url)
    if link != url:
        return Media(link, "", is_video)
    parts = urlsplit(url)
    return Media(url, f"{parts.scheme}://{parts.netloc}", is_video)


def link_of(url: str, base_url: str) -> str:
    """A download link for a browser, which may know the farm by another name."""
    return url.removeprefix(base_url) if url.startswith(f"{base_url}/") else url


def can_retry(recording: dict[str, Any]) -> bool:
    """Whether an upload to a customer's storage waits for its next attempt, or was given up."""
    return recording["file_size"] is not None and any(
        transfer["target"] != STORE and transfer["state"] in {TransferState.WAITING, TransferState.GIVEN_UP}
        for transfer in recording["transfers"]
    )


def _words(recording: dict[str, Any]) -> dict[str, Any]:
    """The texts of the page about the recording."""
    quality = recording["quality"] or {}
    share = lost_share(recording)
    return {
        "state": state_in_words(recording),
        "queue": queue_in_words(recording),
        "stop": stop_in_words(recording),
        "copies": {
            transfer["target"]: copy_in_words(transfer, is_running=recording["status"] in ACTIVE)
            for transfer in recording["transfers"]
        },
        "lost_share": f"{100 * share:.1f} %" if share >= 0.0005 else "",
        "reduced": times_in_words(steps) if (steps := quality.get("encoder_steps")) else "",
        "findings": [
            (finding_in_words(finding), f"{times_in_words(count['times'])}, {count['seconds']} s")
            for finding, count in (quality.get("findings") or {}).items()
        ],
    }


def _start_at(request: Request) -> float:
    """The start position of the player in seconds, from the timeline's links."""
    try:
        return max(0.0, min(float(request.query_params.get("at", "0")), 1e6))
    except ValueError:
        return 0.0


def _attempts(context: Context, organization_id: str, recording: dict[str, Any]) -> list[dict[str, Any]]:
    """The latest webhook deliveries of a recording, each with the name of its webhook."""
    registered = {str(webhook.id): webhook.name for webhook in context.webhooks.all_of(organization_id)}
    named = {webhook["id"]: webhook["url"] for webhook in recording["webhooks"]}
    since = datetime.fromisoformat(recording["invoked_time"])
    found: list[tuple[str, LogObject]] = [
        (name, log_object(webhook_id, entry))
        for webhook_id, name in (registered | named).items()
        for entry in context.webhook_log.of_recording(
            organization_id, webhook_id, UUID(recording["id"]), since
        )
    ]
    newest = sorted(found, key=lambda one: one[1].timestamp, reverse=True)[:MAX_ATTEMPTS]
    return [{"webhook": name, **entry.model_dump()} for name, entry in newest]


async def _command(request: Request, visitor: Visitor, form: Form) -> Response:
    command = form.get("action", "")
    try:
        answer = await ask(request, visitor, "PUT", _path(request), body={"action": command})
    except RefusedError as error:
        return await _page(request, visitor, error)
    return redirect(f"{_path(request)}?done={_message(command, answer.data['status'])}")


def _message(command: str, status: str) -> str:
    """The message after a command; a slow recorder may not have executed it yet."""
    if command == Command.STOP and status == Status.ERRORED:
        return "cancel"
    return command if status in _REACHED.get(command, ()) else "ordered"


async def _upload(request: Request, visitor: Visitor, form: Form) -> Response:
    preset = form.get("preset")
    body = {"storage_config": {"type": "preset", "name": preset}} if preset else {}
    return await _do(
        request, visitor, "POST", f"{_path(request)}/upload", "copy" if preset else "upload", body
    )


async def _replay(request: Request, visitor: Visitor, form: Form) -> Response:
    webhook_id, log_id = (segment(form.get(name, "")) for name in ("webhook_id", "log_id"))
    path = f"/webhooks/{webhook_id}/logs/{log_id}/replay"
    return await _do(request, visitor, "POST", path, "replay")


async def _delete(request: Request, visitor: Visitor, _form: Form) -> Response:
    try:
        await ask(request, visitor, "DELETE", _path(request))
    except RefusedError as error:
        return await _page(request, visitor, error)
    return redirect("/?done=deleted")


async def _do(
    request: Request, visitor: Visitor, method: str, path: str, what: str, body: Any = None
) -> Response:
    """Send a request to the API, and show the page again with the message `what`."""
    try:
        await ask(request, visitor, method, path, body=body)
    except RefusedError as error:
        return await _page(request, visitor, error)
    return redirect(f"{_path(request)}?done={what}")


async def _live_picture(request: Request, visitor: Visitor) -> Response:
    """The current picture of a recording, or a placeholder.

    It never fails: the script asks every two seconds, and browsers print each failure in their console.
    """
    await ask(request, visitor, "GET", _path(request))  # an unknown recording is still a 404
    answer = await fetch(request, visitor, "GET", f"{_path(request)}/live.jpg")
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if answer.status_code == 200 and answer.headers.get("content-type") == "image/jpeg":
        return Response(answer.content, media_type="image/jpeg", headers=headers)
    return Response(_NO_PICTURE, media_type="image/svg+xml", headers=headers)


def _path(request: Request) -> str:
    return f"/recordings/{segment(request.path_params['recording_id'])}"


_PAGE: Final = "/recordings/{recording_id}"

recording_page_routes: Final[list[BaseRoute]] = [
    Route(_PAGE, page(_show), methods=["GET"]),
    Route(f"{_PAGE}/live.jpg", page(_live_picture), methods=["GET"]),
    Route(f"{_PAGE}/command", action(_command), methods=["POST"]),
    Route(f"{_PAGE}/upload", action(_upload), methods=["POST"]),
    Route(f"{_PAGE}/replay", action(_replay), methods=["POST"]),
    Route(f"{_PAGE}/delete", action(_delete), methods=["POST"]),
]
