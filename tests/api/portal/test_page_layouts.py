"""The portal's pages look as designed and are accessible, with data that is always the same."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Literal
from uuid import UUID

import pytest
from playwright.sync_api import ViewportSize, sync_playwright
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from recording_farm.api.app import create_app
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.nodes.registry import Condition, Nodes
from recording_farm.farm.queues.recordings import enqueue_recording
from recording_farm.farm.recording.model import (
    Failure,
    FileKind,
    FinishedFile,
    Reason,
    ReasonKind,
    Status,
    TimelineEntry,
)
from recording_farm.farm.recording.transfers import STORE, Transfer, TransferError, TransferState
from recording_farm.layouts.pytest_plugin import LayoutSnapshot
from testkit.api.portal import logged_in
from testkit.api.serving import app_in_thread
from testkit.farm import Farm
from testkit.recordings import new_recording

BEGAN = datetime(2026, 1, 15, 9, tzinfo=UTC)
SHOWN = UUID(int=7)
# What is not the same each time: the player of a file that is not there, a length that grows, and when a node
# was heard.
MASKS = {"recordings": ["[data-running]"], "recording": ["video"], "nodes": [".nodes time"]}
# A time has more letters after ten, and what stands beside it moves. There is no file for the player, whose
# controls show that it loads until a moment after it knows, and over the mask.
SAME_EACH_TIME = """
document.querySelectorAll(".nodes time").forEach(time => { time.textContent = "Jan 15, 2026, 9:00 AM"; });
for (const video of document.querySelectorAll("video")) video.controls = false;
"""
DESKTOP, PHONE = "1280x900", "360x900"


class LoggedIn:
    """An app as somebody sees it who is logged in: the pictures' browser keeps no cookies."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self.cookie = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.cookie:
            headers = [pair for pair in scope["headers"] if pair[0] != b"cookie"]
            scope = {**scope, "headers": [*headers, (b"cookie", self.cookie.encode())]}
        await self._app(scope, receive, send)


@pytest.fixture
def address(farm: Farm) -> Iterator[str]:
    """Where somebody from `acme` sees what they have recorded."""
    fill(farm)
    nodes = Nodes(farm.redis)
    for name, recordings, load in (("node-1", 2, 0.61), ("node-2", 0, 0.08)):
        condition = Condition(
            recordings=recordings,
            warm_stages=1,
            load=load,
            disk_free=(80 - 60 * recordings // 2) << 30,
            disk_size=100 << 30,
            memory_free=5 << 30,
        )
        nodes.beat(name, 3, condition)
    nodes.drain("node-2")
    app = LoggedIn(create_app(farm.settings))
    with app_in_thread(app) as address:  # type: ignore[arg-type] # any ASGI app
        with logged_in(address, "acme", "acme-key") as client:
            app.cookie = f"farm_session={client.cookies['farm_session']}"
        yield address


def fill(farm: Farm) -> None:
    """Recordings in each state, one of them with everything that a timeline can have."""
    for number, (meeting, status) in enumerate(
        (
            ("weekly", Status.UPLOADED),
            ("all-hands", Status.UPLOADED),
            ("interview with a candidate", Status.ERRORED),
            ("board", Status.UPLOADING),
            ("standup", Status.PAUSED),
            ("webinar-2026", Status.RECORDING),
            ("support-4711", Status.INVOKED),
        )
    ):
        is_shown = meeting == "all-hands"
        recording = new_recording(
            id=SHOWN if is_shown else UUID(int=100 + number),
            meeting_id=meeting,
            invoked_time=BEGAN + timedelta(minutes=7 * number),
            status=status,
            node="node-1",
            slot={Status.INVOKED: 3, Status.RECORDING: 1, Status.PAUSED: 2}.get(status),
            output_file_name=f"{meeting}_1768467600000.mp4",
            **_ended(number) if status is Status.UPLOADED else {},
            **_shown() if is_shown else {},
            error=Failure(code="recording_failed", message="the page did not load")
            if status is Status.ERRORED
            else None,
        )
        farm.records.add(recording)
        if status is Status.INVOKED:  # without a job, the API would take it for lost
            enqueue_recording(farm.redis, recording)
        if status in {Status.RECORDING, Status.PAUSED, Status.UPLOADING}:
            began = recording.invoked_time + timedelta(seconds=2)
            farm.records.note(recording.id, TimelineEntry(event="take_began", take=0, time=began))
        if status in {Status.PAUSED, Status.UPLOADING}:
            ended = recording.invoked_time + timedelta(minutes=3)
            farm.records.note(recording.id, TimelineEntry(event="take_ended", take=0, time=ended))
    for entry in _timeline():
        farm.records.note(SHOWN, entry)


def _ended(number: int) -> dict[str, Any]:
    file = FinishedFile(kind=FileKind.VIDEO, name="file.mp4", size=71_303_168 + number, sha256="0" * 64)
    return {"files": (file,), "file_size": file.size, "recording_duration": 1065}


def _shown() -> dict[str, Any]:
    return {
        "started_time": BEGAN + timedelta(minutes=7, seconds=2),
        "stopped_time": BEGAN + timedelta(minutes=29),
        "stop_reason": Reason(reason=ReasonKind.API_CALL),
        "transfers": (
            Transfer(target=STORE, state=TransferState.DONE, attempts=1),
            Transfer(
                target="aws",
                state=TransferState.GIVEN_UP,
                attempts=17,
                error=TransferError(code="no_such_bucket", message="the bucket recordings does not exist"),
            ),
        ),
        "quality": {
            "frames_captured": 31_950,
            "frames_lost": 12,
            "frames_doubled": 0,
            "takes": 3,
            "speed": 1.0,
            "encoder_steps": 0,
            "silent_seconds": 4.2,
            "findings": {"no_sound": {"times": 1, "seconds": 40.5}},
            "peak_memory": 845 << 20,
        },
    }


def _timeline() -> list[TimelineEntry]:
    began = BEGAN + timedelta(minutes=7, seconds=2)

    def at(minutes: float, event: Any, **fields: Any) -> TimelineEntry:
        return TimelineEntry(time=began + timedelta(minutes=minutes), event=event, **fields)

    return [
        at(0, "take_began", take=0),
        at(0, "state", status=Status.RECORDING),
        at(3, "finding_began", finding="no_sound"),
        at(3.7, "finding_ended", finding="no_sound", seconds=40.5),
        at(8, "fault", fault="the browser died and was started again"),
        at(8.3, "take_began", take=1),
        at(13, "take_ended", take=1),
        at(13, "state", status=Status.PAUSED),
        at(17, "take_began", take=2),
        at(17, "state", status=Status.RECORDING),
        at(21.9, "take_ended", take=2),
        at(21.9, "state", status=Status.UPLOADING),
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "path", "viewport", "color_scheme"),
    [
        ("recordings", "/", DESKTOP, "light"),
        ("recordings-dark", "/", DESKTOP, "dark"),
        ("recordings-phone", "/", PHONE, "light"),
        ("recording", f"/recordings/{SHOWN}", "1280x1800", "light"),
        ("recording-dark", f"/recordings/{SHOWN}", "1280x1800", "dark"),
        pytest.param("recording-phone", f"/recordings/{SHOWN}", "360x1900", "light", marks=pytest.mark.long),
        ("start", "/start", DESKTOP, "light"),
        ("settings", "/settings", "1280x1500", "light"),
        ("nodes", "/nodes", DESKTOP, "light"),
        ("nodes-dark", "/nodes", DESKTOP, "dark"),
        ("nodes-phone", "/nodes", PHONE, "light"),
    ],
)
def test_page_should_look_as_designed(
    layout_snapshot: LayoutSnapshot, address: str, name: str, path: str, viewport: str, color_scheme: str
) -> None:
    layout_snapshot(
        f"{address}{path}",
        name,
        viewport=viewport,
        color_scheme=color_scheme,
        masks=MASKS.get(name.partition("-")[0], []),
        script=SAME_EACH_TIME,
    )


def test_login_should_look_as_designed(layout_snapshot: LayoutSnapshot, settings: Settings) -> None:
    with app_in_thread(create_app(settings)) as address:
        layout_snapshot(f"{address}/login", "login", viewport=DESKTOP)


AXE = """async () => (await axe.run({ resultTypes: ["violations"] })).violations.flatMap(
    ({ id, nodes }) => nodes.map(({ target }) => `${id}: ${target}`))"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("width", "color_scheme"),
    [(1280, "light"), pytest.param(360, "dark", marks=pytest.mark.long)],
)
def test_axe_should_find_nothing(address: str, width: int, color_scheme: Literal["light", "dark"]) -> None:
    axe = (files("axe_playwright_python") / "axe.min.js").read_text()
    recordings = [f"/recordings/{SHOWN}", *(f"/recordings/{UUID(int=100 + number)}" for number in (2, 5, 6))]
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(
            viewport=ViewportSize(width=width, height=900), color_scheme=color_scheme, bypass_csp=True
        )
        page.set_default_timeout(60_000)
        for path in (
            *("/", "/?page=99", "/start", "/meetings", "/meetings/demo", "/settings", "/settings/storage"),
            *("/nodes", *recordings, "/login", "/nothing", "/docs", "/meet/abc"),
            *("/rq/", "/rq/0/view/workers", "/rq/0/view/jobs", f"/rq/0/view/job/{UUID(int=106)}", "/rq/none"),
        ):
            page.goto(f"{address}{path}")
            page.evaluate(axe)
            found[path] = page.evaluate(AXE)
        browser.close()
    assert {path: violations for path, violations in found.items() if violations} == {}
