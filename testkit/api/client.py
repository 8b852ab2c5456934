"""A client of the real app, in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from recording_farm.api.app import create_app
from recording_farm.farm.config.settings import Settings

ACME = ("acme", "acme-key")
OTHER = ("other", "other-key")


@asynccontextmanager
async def client_of(settings: Settings, address: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app with other settings, that comes from `address` with the key of `acme`."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1234))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://farm.test", auth=ACME) as client,
    ):
        yield client


async def start(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Start to record the meeting `demo`, or as `fields` say; returns the recording."""
    response = await client.post("/v2/recordings", json={"meeting_id": "demo"} | fields)
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


def assert_error(response: httpx.Response, status: int, text: str) -> None:
    """That the response is the envelope of an error which tells `text`."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["success"] is False
    assert body["error"]["code"] == status
    assert text in body["error"]["message"]
    assert body["errors"] == [{"code": status, "message": body["error"]["message"]}]
