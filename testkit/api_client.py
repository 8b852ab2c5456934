"""A client of the real app, in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

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
