"""What pages of other origins may ask for and read."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, async_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recording_farm.api.app import create_app
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.recording.files import playlist_name, segment_name
from recording_farm.farm.recording.links import download_link
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.storage.backend import Checkpoint
from recording_farm.farm.storage.store import open_store
from testkit.api.client import ACME, client_of
from testkit.api.serving import served_in_thread
from testkit.farm import Farm
from testkit.pages import serve_pages
from testkit.recordings import new_recording

APP = "https://app.test"
STRANGER = "https://stranger.test"
CONTENT = bytes(range(256)) * 40


def preflight(origin: str, method: str, *headers: str) -> dict[str, str]:
    """The headers of a browser that asks before it sends a page's request."""
    asked = {"Access-Control-Request-Headers": ",".join(headers)} if headers else {}
    return {"Origin": origin, "Access-Control-Request-Method": method} | asked


@pytest.fixture
def shared(settings: Settings) -> Settings:
    """Settings with an origin whose pages may use the API."""
    return settings.model_copy(update={"cors_origins": (APP, "http://localhost:3000")})


@pytest.fixture
def link(farm: Farm, tmp_path: Path) -> Recording:
    """A finished recording."""
    source = tmp_path / "cut.mp4"
    source.write_bytes(CONTENT)
    return farm.stored(new_recording(), source)


async def test_link_should_be_open_to_pages_of_any_origin(client: httpx.AsyncClient, link: Recording) -> None:
    url = (await client.get(f"/v2/recordings/{link.id}")).json()["data"]["download_url"]
    client.auth = None  # type: ignore[assignment]
    asked = await client.options(url, headers=preflight(STRANGER, "GET", "range"))
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "*")
    assert asked.headers["access-control-allow-headers"] == "range"
    part = await client.get(url, headers={"Origin": STRANGER, "Range": "bytes=0-99"})
    assert (part.status_code, part.content) == (206, CONTENT[:100])
    assert part.headers["access-control-allow-origin"] == "*"
    exposed = {name.strip().lower() for name in part.headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"content-range", "accept-ranges", "content-length", "etag", "content-disposition"}
    assert "access-control-allow-credentials" not in {*part.headers, *asked.headers}
    for wrong in (f"{url}0", url.replace(str(link.id), "none")):
        refused = await client.get(wrong, headers={"Origin": STRANGER})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (403, "*")
    head = await client.head(url, headers={"Origin": STRANGER})
    assert (head.status_code, head.headers["access-control-allow-origin"]) == (200, "*")


async def test_preview_should_be_open_to_pages_of_any_origin(client: httpx.AsyncClient) -> None:
    for path in (
        "/v2/recordings/r/live/index.m3u8",
        "/client/v4/accounts/a/realtime/kit/b/recordings/r/live.jpg",
    ):
        asked = await client.options(path, headers=preflight(STRANGER, "GET", "authorization"))
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "*")
        assert asked.headers["access-control-allow-headers"] == "authorization"
        refused = await client.get(path, headers={"Origin": STRANGER})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (404, "*")


async def test_api_should_be_closed_to_pages_of_other_origins_unless_they_are_listed(
    client: httpx.AsyncClient,
) -> None:
    asked = await client.options("/v2/recordings", headers=preflight(APP, "POST", "authorization"))
    assert (asked.status_code, asked.json()["error"]["type"]) == (403, "origin_refused")
    assert "FARM_CORS_ORIGINS" in asked.json()["error"]["message"]
    listed = await client.get("/v2/recordings", headers={"Origin": APP})
    assert listed.status_code == 200
    assert "access-control-allow-origin" not in {*asked.headers, *listed.headers}


async def test_preflight_of_the_recording_sdks_should_be_answered_without_a_key(shared: Settings) -> None:
    sent = (
        *(
            "authorization",
            "content-type",
            "idempotency-key",
            "x-realtimekit-version",
            "tracing-id",
            "traceparent",
        ),
        *("x-dyte-web-core-version", "dyte-tracing-id", "last-event-id"),
    )
    async with client_of(shared) as client:
        client.auth = None  # type: ignore[assignment]
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            for path in ("/v2/recordings", "/v2/events", "/client/v4/accounts/a/realtime/kit/b/webhooks"):
                asked = await client.options(path, headers=preflight(APP, method, *sent))
                assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, APP)
                assert set(asked.headers["access-control-allow-headers"].split(",")) == set(sent)
                assert method in asked.headers["access-control-allow-methods"].split(", ")
                assert "Origin" in asked.headers["vary"]
        refused = await client.options("/v2/recordings", headers=preflight(STRANGER, "POST"))
        assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)
        no_method = await client.options("/v2/recordings", headers=preflight(APP, "TRACE"))
        assert (no_method.status_code, no_method.headers["access-control-allow-origin"]) == (405, APP)


async def test_errors_should_be_readable_for_pages_that_may_use_the_api(shared: Settings) -> None:
    async with client_of(shared.model_copy(update={"rate_limit": 3})) as client:
        found = {}
        for path in ("/v2/recordings/none", "/v2/nothing", "/v2/recordings?no=1", "/v2/recordings"):
            found[path] = await client.get(path, headers={"Origin": APP})
        found["no key"] = await client.get("/v2/recordings", headers={"Origin": APP}, auth=("acme", "wrong"))
        stranger = await client.get("/v2/nothing", headers={"Origin": STRANGER})
    assert [answer.status_code for answer in found.values()] == [404, 404, 422, 200, 401]
    for answer in found.values():
        assert answer.headers["access-control-allow-origin"] == APP
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in stranger.headers


async def test_limited_requests_and_unexpected_errors_should_be_readable_too(shared: Settings) -> None:
    app = create_app(shared.model_copy(update={"rate_limit": 1}))

    async def broken(_request: Request) -> Response:
        raise RuntimeError("an error that nobody expects")

    app.router.routes.insert(0, Route("/v2/broken", broken))
    async with _client(app) as client:
        answers = [await client.get("/v2/recordings", headers={"Origin": APP}) for _ in range(2)]
        answers.append(await client.get("/v2/broken", headers={"Origin": APP}))
    assert [answer.status_code for answer in answers] == [200, 429, 500]
    assert [answer.headers["access-control-allow-origin"] for answer in answers] == [APP] * 3
    assert "Retry-After" in answers[1].headers["access-control-expose-headers"]


@asynccontextmanager
async def _client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://farm.test", auth=ACME) as client,
    ):
        yield client


async def test_star_should_let_any_page_use_the_api_but_not_the_portal(settings: Settings) -> None:
    async with client_of(settings.model_copy(update={"cors_origins": ("*",)})) as client:
        answer = await client.get("/v2/recordings", headers={"Origin": "null"})
        assert answer.headers["access-control-allow-origin"] == "*"
        for path in ("/", "/login", "/settings", "/metrics", "/meet/demo", "/rq/"):
            page = await client.get(path, headers={"Origin": STRANGER, "Cookie": "farm_session=x"})
            assert "access-control-allow-origin" not in page.headers, path


# In a page: what it reads there, or the error that a browser gives a page that may not.
READ = """async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return [answer.status, bytes.length, answer.headers.get('content-range')];
  } catch (error) { return error.name }
}"""


async def _read(page: Page, url: str, **options: Any) -> Any:
    return await page.evaluate(READ, [url, options])


# As hls.js does: the playlist, and a part of each segment that it names.
PLAY = """async (playlist) => {
  const lines = (await (await fetch(playlist)).text()).split('\\n');
  const found = [];
  for (const segment of lines.filter((line) => line && !line.startsWith('#'))) {
    const {pathname, search} = new URL(segment);  // of the farm's address, which is another one here
    const answer = await fetch(new URL(pathname + search, playlist), {headers: {Range: 'bytes=0-187'}});
    found.push([answer.status, (await answer.arrayBuffer()).byteLength, answer.headers.get('content-range')]);
  }
  return found;
}"""


def stored_playlist(settings: Settings, recording: Recording, directory: Path) -> str:
    """Path and query of the link to a playlist of two segments in the store."""
    secret = load_secret_key(settings)
    store = open_store(settings)
    names = [segment_name(recording, number) for number in range(2)]
    text = "".join(f"#EXTINF:2,\n{name}\n" for name in names)
    files = {playlist_name(recording): f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n{text}#EXT-X-ENDLIST\n".encode()}
    files |= dict.fromkeys(names, b"G" * 376)
    for name, content in files.items():
        (directory / name).write_bytes(content)
        store.put(recording.id, directory / name, name, Checkpoint(directory / f"{name}.checkpoint"))
    return download_link(secret, recording.id, playlist_name(recording), int(time.time()) + 600)


async def test_player_and_app_on_another_origin_should_work_in_a_browser(
    settings: Settings, link: Recording, tmp_path: Path
) -> None:
    playlist = stored_playlist(settings, link, tmp_path)
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "player.html").write_text("<!doctype html><title>player</title>")
    key = {
        "Authorization": "Bearer acme-key",
        "Content-Type": "application/json",
        "x-realtimekit-version": "2.0",
    }
    with (
        serve_pages(pages) as player,
        serve_pages(pages, "127.0.0.2") as stranger,
        served_in_thread(settings.model_copy(update={"cors_origins": (player,)})) as farm,
    ):
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox"]
            )
            ours, other = await browser.new_page(), await browser.new_page()
            await ours.goto(f"{player}/player.html")
            await other.goto(f"{stranger}/player.html")
            async with httpx.AsyncClient(base_url=farm, auth=ACME) as client:
                shown = (await client.get(f"/v2/recordings/{link.id}")).json()["data"]
            file = shown["download_url"].replace(settings.base_url, farm)
            for page in (ours, other):
                part = await _read(page, file, headers={"Range": "bytes=5-9"})
                assert part == [206, 5, f"bytes 5-9/{len(CONTENT)}"]
                assert await _read(page, f"{farm}/login") == "TypeError"
                assert await page.evaluate(PLAY, farm + playlist) == [[206, 188, "bytes 0-187/376"]] * 2
                assert await page.evaluate(PLAY, farm + playlist) == [[206, 188, "bytes 0-187/376"]] * 2
            recordings = f"{farm}/v2/recordings"
            assert (await _read(ours, recordings, headers=key))[0] == 200
            assert (await _read(ours, recordings, method="POST", headers=key, body="{}"))[0] == 422
            assert (await _read(ours, recordings))[0] == 401
            assert await _read(ours, recordings, headers=key, credentials="include") == "TypeError"
            assert await _read(other, recordings, headers=key) == "TypeError"
            await browser.close()
