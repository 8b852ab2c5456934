"""The real app over a real Redis, and a client that speaks to it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from recording_farm.api.app import create_app
from recording_farm.farm.config.settings import Settings
from testkit.api.client import ACME


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Starlette]:
    """The app, started."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the key of `acme`; errors of the app come as answers, as they do over a network."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://farm.test", auth=ACME) as client:
        yield client
