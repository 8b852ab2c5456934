"""The page of the API's documentation, in a browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from playwright.async_api import Browser, Page, async_playwright

from recording_farm.api.app import OPERATIONS
from recording_farm.api.operations import DYTE, ROOT
from recording_farm.farm.config.settings import Settings
from testkit.api.client import ACME
from testkit.api.serving import served
from testkit.settings import settings_with


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def docs_page(browser: Browser, address: str, width: int = 1280) -> AsyncIterator[Page]:
    """The page, shown; it must have no fault, and load nothing that the farm does not serve."""
    page = await browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
    said: list[tuple[str, str]] = []
    loaded: list[str] = []
    page.on("console", lambda message: said.append((message.type, message.text)))
    page.on("pageerror", lambda error: said.append(("error", error.message)))
    page.on("request", lambda request: loaded.append(request.url))
    await page.goto(f"{address}/docs")
    await page.locator(".opblock").first.wait_for()
    yield page
    await page.close()
    assert [each for each in said if each[0] in {"error", "warning"}] == []
    assert [url for url in loaded if not url.startswith(f"{address}/")] == []


async def test_page_should_show_every_operation_once(settings: Settings, browser: Browser) -> None:
    async with served(settings) as address, docs_page(browser, address) as page:
        shown = await page.locator(".opblock").evaluate_all("blocks => blocks.map(block => block.id)")
    wanted = [
        f"operations-{operation.tag.replace(' ', '_')}-{operation.id}"
        for operation in OPERATIONS
        if {DYTE, ROOT} & set(operation.dialects)
    ]
    # The farm's own requests to receivers.
    wanted += [f"operations-webhooks-recording_{event}_update" for event in ("status", "transfer")]
    assert sorted(shown) == sorted(wanted)


@pytest.mark.long
async def test_page_should_fit_narrow_screens_and_be_dark_where_that_is_wished(
    settings: Settings, browser: Browser
) -> None:
    async with served(settings) as address, docs_page(browser, address, width=360) as page:
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        color = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert sum(map(int, color.removeprefix("rgb(").rstrip(")").split(","))) < 3 * 60


async def test_operation_should_be_tried_where_the_page_is_with_its_key_alone(
    settings: Settings, browser: Browser
) -> None:
    # Behind a proxy, or through a tunnel, the farm has another address than its public one.
    public = settings_with(settings.data_dir, settings.redis_url, public_url="https://farm.test")
    async with served(public) as address, docs_page(browser, address) as page:
        await page.context.add_cookies([{"name": "session", "value": "of the portal", "url": address}])
        await page.locator(".btn.authorize").click()
        basic = page.locator(".auth-container", has_text="basic")
        await basic.locator("input[name=username]").fill(ACME[0])
        await basic.locator("input[name=password]").fill(ACME[1])
        await basic.locator("button[type=submit]").click()
        await page.keyboard.press("Escape")
        operation = page.locator("#operations-recordings-start_recording")
        await operation.locator(".opblock-summary-control").click()
        await operation.locator(".try-out__btn").click()
        await operation.locator("textarea").fill('{"meeting_id": "tried"}')
        async with page.expect_response(f"{address}/v2/recordings") as tried:
            await operation.locator(".execute").click()
        response = await tried.value
        answer, headers = await response.json(), await response.request.all_headers()
    assert (answer["success"], answer["data"]["meeting_id"]) == (True, "tried")
    assert headers["authorization"].startswith("Basic ")
    assert "cookie" not in headers


async def test_page_should_need_no_key_and_let_no_other_code_run(client: httpx.AsyncClient) -> None:
    for path in ("/docs", "/docs-assets/docs.js", "/docs-assets/swagger-ui-bundle.js"):
        response = await client.get(path, auth=("", ""))
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
    license_text = (await client.get("/docs-assets/LICENSE", auth=("", ""))).text
    assert "Apache License" in license_text
