"""What the browser clients of Dyte and RealtimeKit send, from a page of another origin in a real browser.

Paths, headers and bodies are those of @dytesdk/web-core 3.1.11 and @cloudflare/realtimekit 2.0.2; the clients
themselves are tried by `compat/test_browser_clients.py`.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from playwright.async_api import Page, async_playwright

from recording_farm.farm.db.clients import connect_async
from recording_farm.farm.recording.commands import Command, read_commands
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import Records
from testkit.api.serving import served
from testkit.farm import Farm
from testkit.pages import serve_pages
from testkit.settings import settings_with

SECRET = "a secret of the meetings' own, long enough for HS256"
CLAIMS = {"orgId": "acme", "meetingId": "room", "participantId": "ada", "presetId": "host"}
TRACE = "cb2bdd36-d93a-4b78-8a49-85d0f6ee796b"
HEADERS = {
    "realtimekit": {"x-realtimekit-version": "2.0.2", "tracing-id": TRACE},
    "dyte": {"x-dyte-web-core-version": "3.1.11", "dyte-tracing-id": TRACE},
}
DONE = {
    Command.PAUSE: Status.PAUSED,
    Command.RESUME: Status.RECORDING,
    Command.STOP: Status.UPLOADING,
}
ASK = """async ([address, token, headers, method, path, body]) => {
  const trace = "00-cb2bdd36d93a4b788a4985d0f6ee796b-bdb53a00985e4f88-01";
  const sent = { Authorization: `Bearer ${token}`, TRACEPARENT: trace };
  const response = await fetch(address + path, {
    method,
    headers: { ...headers, ...sent, ...(body ? { "Content-Type": "application/json" } : {}) },
    body: body ? JSON.stringify(body) : undefined,
  });
  return [response.status, await response.json()];
}"""


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    (tmp_path / "index.html").write_text("<!doctype html><title>A meeting</title>")
    with serve_pages(tmp_path) as pages:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox"]
            )
            page = await browser.new_page()
            await page.goto(f"{pages}/index.html")
            yield page
            await browser.close()


@dataclass(frozen=True)
class Asker:
    """Asks for something as a client does, from within a page."""

    page: Page
    address: str
    token: str
    headers: dict[str, str]

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """The answer's status and content."""
        sent = [self.address, self.token, self.headers, method, path, body]
        status, answer = await self.page.evaluate(ASK, sent)
        return status, answer


@asynccontextmanager
async def obeying(redis_address: str, records: Records, recording_id: str) -> AsyncIterator[None]:
    """Do what a worker does with a recording's orders."""

    async def obey() -> None:
        async with connect_async(redis_address) as client:
            async for order in read_commands(client, recording_id):
                await asyncio.to_thread(records.change_state, recording_id, DONE[order])

    worker = asyncio.create_task(obey())
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


@pytest.mark.parametrize("client", HEADERS)
async def test_page_of_another_origin_should_record_its_meeting(
    farm: Farm, redis_address: str, page: Page, client: str
) -> None:
    own = settings_with(
        farm.settings.data_dir,
        farm.settings.redis_url,
        webhook_key=farm.settings.webhook_key,
        page_secret=SECRET,
        cors_origins=page.url.removesuffix("/index.html"),
    )
    token = jwt.encode({**CLAIMS, "exp": int(time.time()) + 60}, SECRET)
    wanted = {
        "file_name_prefix": "Physics",
        "video_config": {"height": 360, "width": 640},
        "meeting_id": "room",
        "allow_multiple_recordings": False,
    }
    async with served(own) as address:
        asker = Asker(page, address, token, HEADERS[client])
        status, answer = await asker.ask("POST", "/v2/recordings", wanted)
        assert status == 200, answer
        assert answer["data"]["start_reason"]["caller"] == {"type": "USER", "user_Id": "ada"}
        recording_id = answer["data"]["id"]
        status, answer = await asker.ask("POST", "/v2/recordings", wanted)
        assert (status, answer["error"]["type"]) == (409, "already_recording")
        farm.records.change_state(recording_id, Status.RECORDING)
        status, answer = await asker.ask("GET", "/v2/recordings/active-recording/room")
        assert (status, answer["data"]["id"], answer["data"]["status"]) == (200, recording_id, "RECORDING")
        async with obeying(redis_address, farm.records, recording_id):
            for order, state in DONE.items():
                body = {"action": order.value}
                status, answer = await asker.ask("PUT", f"/v2/recordings/{recording_id}", body)
                assert (status, answer["data"]["status"]) == (200, state)
