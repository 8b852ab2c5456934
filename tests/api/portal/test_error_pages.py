"""An error is a page for a browser and JSON for an API client."""

import httpx
import pytest

from testkit.api.portal import Visit

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


@pytest.mark.parametrize(
    "path", ["/nothing", "/recordings/a/b", "/portal-assets/nothing.css", "/docs/nothing"]
)
async def test_mistyped_address_should_be_a_page_in_a_browser(stranger: Visit, path: str) -> None:
    response = await stranger.client.get(path, headers=BROWSER)
    assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert f"{path} does not exist." in response.text
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert response.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/event-stream", "image/avif,image/*,*/*;q=0.8"]
)
async def test_mistyped_address_should_be_json_for_a_client(stranger: Visit, accept: str) -> None:
    response = await stranger.client.get("/nothing", headers={"Accept": accept})
    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found")


async def test_every_error_of_the_api_should_be_a_page_in_a_browser(stranger: Visit) -> None:
    refused = await stranger.client.get("/v2/recordings", headers=BROWSER)
    assert (refused.status_code, refused.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert refused.headers["www-authenticate"]  # a client that sends this Accept needs it as well
    expired = await stranger.client.get(
        "/v2/recordings/00000000-0000-0000-0000-000000000000/files/x.mp4?expires=1&signature=x",
        headers=BROWSER,
    )
    assert expired.status_code >= 400
    assert "<h1>" in expired.text
    wrong = await stranger.client.post("/healthz", headers=BROWSER)
    assert "/healthz does not allow POST." in wrong.text


async def test_error_page_should_have_the_navigation_of_a_visitor(acme: Visit, stranger: Visit) -> None:
    assert "Log out" in (await acme.client.get("/nothing", headers=BROWSER)).text
    assert "Log out" not in (await stranger.client.get("/nothing", headers=BROWSER)).text


async def test_error_page_should_keep_text_of_the_address_as_text(stranger: Visit) -> None:
    response = await stranger.client.get(
        httpx.URL("http://farm.test/<script>alert(1)</script>"), headers=BROWSER
    )
    assert "<script>alert" not in response.text
