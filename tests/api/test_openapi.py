"""The OpenAPI document: valid, whole, and served."""

import re
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from playwright.async_api import async_playwright

from api.app import OPERATIONS
from api.openapi import openapi_document
from api.operations import DYTE, REALTIMEKIT
from farm.settings import Settings
from tests.api.serving import served

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document(OPERATIONS)


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All operations of the document by their ids."""
    return {
        operation["operationId"]: operation
        for item in document["paths"].values()
        for method, operation in item.items()
        if method in METHODS
    }


async def test_document_should_be_served_and_valid(client: httpx.AsyncClient) -> None:
    response = await client.get("/openapi.json", auth=("", ""))
    assert response.status_code == 200
    OpenAPIV31SpecValidator(response.json()).validate()


def test_document_should_have_every_operation_in_every_dialect(document: dict[str, Any]) -> None:
    ids = operations(document).keys()
    for operation in OPERATIONS:
        assert operation.id in ids
        assert (f"realtimekit_{operation.id}" in ids) == (REALTIMEKIT in operation.dialects)
    assert len(ids) == sum(len(operation.dialects) for operation in OPERATIONS)
    assert f"{DYTE}/recordings/active-recording/{{meeting_id}}" in document["paths"]


def test_operation_should_tell_all_its_answers(document: dict[str, Any]) -> None:
    start = operations(document)["start_recording"]
    assert start["responses"].keys() == {"200", "400", "401", "409", "413", "422", "429", "503"}
    assert "Retry-After" in start["responses"]["429"]["headers"]
    assert "WWW-Authenticate" in start["responses"]["401"]["headers"]
    assert start["security"] == [{"basic": []}, {"bearer": []}]
    assert operations(document)["health"]["security"] == []


def test_parameters_should_have_the_schemas_that_validate(document: dict[str, Any]) -> None:
    listed = {each["name"]: each for each in operations(document)["get_all_recordings"]["parameters"]}
    assert listed["per_page"]["schema"]["maximum"] == 1000
    assert listed["status"]["explode"] is False
    assert listed["expired"]["schema"]["type"] == "boolean"
    one = operations(document)["realtimekit_get_one_recording"]["parameters"]
    assert [each["name"] for each in one] == ["account_id", "app_id", "recording_id"]
    assert one[2]["schema"] == {"type": "string", "format": "uuid"}
    start = operations(document)["start_recording"]["parameters"]
    assert [(each["name"], each["in"], each["required"]) for each in start] == [
        ("Idempotency-Key", "header", False)
    ]


async def test_page_should_show_every_operation_and_run_no_code(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs", auth=("", ""))
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in response.text
    for operation in OPERATIONS:
        assert f'id="{operation.id}"' in response.text
    shown = set(re.findall(r'href="#([^"]+)"', response.text))
    assert shown <= set(re.findall(r'id="([^"]+)"', response.text))


async def test_page_should_be_styled_and_fit_narrow_screens(settings: Settings) -> None:
    async with served(settings) as address, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        problems: list[str] = []
        for width in (360, 1280):
            page = await browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark")
            page.on("console", lambda message: problems.append(message.text))
            await page.goto(f"{address}/docs")
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 31)"
        await browser.close()
        assert problems == []
