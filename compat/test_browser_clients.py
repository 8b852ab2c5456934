"""The browser clients of Dyte and RealtimeKit record from a page of another origin, with their own token."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import jwt
import pytest
from playwright.sync_api import Page, sync_playwright

from compat.service import PAGE_SECRET, service
from testkit.running_farm import RunningFarm

ADA = {"type": "USER", "user_Id": "ada"}
JOIN = """async ([name, authToken, baseURI]) => {
  const recording = { fileNamePrefix: "Physics", videoConfig: { width: 640, height: 360, codec: "H264" } };
  globalThis.meeting = await globalThis[name].init({
    authToken,
    baseURI,
    defaults: { audio: false, video: false, recording },
    modules: { tracing: false, plugin: false, pip: false },
  });
}"""
# What clients do when their service's socket tells of the recording.
TELL = """state => {
  const { recording } = globalThis.meeting;
  recording.updateRecordings(recording.recordings.map(each => ({ ...each, state })));
}"""


@pytest.fixture(scope="module")
def base_uri(farm: RunningFarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with service(farm.address, tmp_path_factory.mktemp("service")) as base_uri:
        yield base_uri


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser.new_context(ignore_https_errors=True).new_page()
        browser.close()


def token(meeting_id: str, **claims: Any) -> str:
    # The organization as the service has it, which is the only one of this farm.
    content = {
        "orgId": "0e3bd1ad-8ae8-4ecd-8c40-9b8a6c4a1d3c",
        "meetingId": meeting_id,
        "participantId": "ada",
        "presetId": "5b0f1b1c-1a52-4a0c-9c2a-6f7a2f0f3c11",
        "exp": int(time.time()) + 3600,
    }
    return jwt.encode({**content, **claims}, PAGE_SECRET)


@pytest.mark.parametrize(("client", "name"), [("realtimekit", "RealtimeKitClient"), ("dyte", "DyteClient")])
def test_client_should_start_pause_resume_and_stop(
    farm: RunningFarm, base_uri: str, browser_page: Page, pages: str, client: str, name: str, tmp_path: Path
) -> None:
    browser_page.goto(f"{pages}/{client}.html")
    browser_page.evaluate(JOIN, [name, token(client), base_uri])
    browser_page.evaluate("meeting.recording.start()")
    (recording_id,) = browser_page.evaluate("meeting.recording.recordings.map(each => each.id)")
    recording = farm.wait_for(recording_id, "RECORDING")
    assert recording["start_reason"] == {"reason": "API_CALL", "caller": ADA}
    assert recording["output_file_name"].startswith("Physics_")
    assert (recording["video_config"]["width"], recording["video_config"]["height"]) == (640, 360)

    for action, before, after in (
        ("pause", "RECORDING", "PAUSED"),
        ("resume", "PAUSED", "RECORDING"),
        ("stop", "RECORDING", "UPLOADED"),
    ):
        browser_page.evaluate(TELL, before)
        browser_page.evaluate(f"meeting.recording.{action}()")
        recording = farm.wait_for(recording_id, after)
    assert recording["stop_reason"] == {"reason": "API_CALL", "caller": ADA}
    file = tmp_path / "recording.mp4"
    file.write_bytes(farm.client.get(recording["download_url"], auth=("", "")).content)
    with av.open(str(file)) as media:
        assert sum(1 for _ in media.decode(video=0)) > 0


def test_client_should_be_told_that_the_meeting_is_being_recorded(
    farm: RunningFarm, base_uri: str, browser_page: Page, pages: str
) -> None:
    started = farm.start(meeting_id="taken")
    browser_page.goto(f"{pages}/realtimekit.html")
    browser_page.evaluate(JOIN, ["RealtimeKitClient", token("taken"), base_uri])
    with browser_page.expect_response("**/v2/recordings") as answer:
        failed = browser_page.evaluate("meeting.recording.start().then(() => null, error => error.code)")
    assert answer.value.status == 409
    assert failed in {"1000", "1005"}
    farm.order(started["id"], "stop")


def test_recorders_own_token_should_not_start_a_recording(
    base_uri: str, browser_page: Page, pages: str
) -> None:
    browser_page.goto(f"{pages}/realtimekit.html")
    browser_page.evaluate(JOIN, ["RealtimeKitClient", token("room", recorder=True), base_uri])
    with browser_page.expect_response("**/v2/recordings") as answer:
        browser_page.evaluate("meeting.recording.start().catch(() => null)")
    assert answer.value.status == 401
