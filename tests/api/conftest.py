"""The real app over a real Redis, and a client that speaks to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette

from api.app import create_app
from farm.config.settings import Settings

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
