"""Who looks at the portal, as with a browser."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
from starlette.applications import Starlette

HOST = "http://farm.test"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
"""What a client may write into any of its fields."""

CSRF_FIELD = re.compile(r'name="csrf_token" value="([0-9a-f]{64})"')


@contextmanager
def logged_in(address: str, organization: str, key: str) -> Iterator[httpx.Client]:
    """Log in at the farm at `address`."""
    with httpx.Client(base_url=address, headers={"Origin": address}, timeout=30) as client:
        found = CSRF_FIELD.search(client.get("/login").text)
        assert found
        fields = {"organization": organization, "key": key, "csrf_token": found[1]}
        assert client.post("/login", data=fields).status_code == 303
        yield client


class Visit:
    """A browser that looks at the portal."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def see(self, path: str, status: int = 200) -> str:
        """The text of a page."""
        response = await self.client.get(path)
        assert response.status_code == status, (response.status_code, response.text)
        return response.text

    async def token(self) -> str:
        """What the pages of this session send along with their forms."""
        page = await self.see("/start")
        found = CSRF_FIELD.search(page)
        assert found, page
        return found[1]

    async def send(self, path: str, /, **fields: str) -> httpx.Response:
        """Send a form."""
        return await self.client.post(path, data={"csrf_token": await self.token(), **fields})

    async def log_in(self, organization: str, key: str, **headers: str) -> httpx.Response:
        """Log in on the login page."""
        found = CSRF_FIELD.search((await self.client.get("/login")).text)
        assert found
        fields = {"organization": organization, "key": key, "csrf_token": found[1]}
        return await self.client.post("/login", data=fields, headers={"Origin": HOST, **headers})


@asynccontextmanager
async def visit_of(
    app: Starlette, organization: str | None = None, key: str = "", base: str = HOST
) -> AsyncIterator[Visit]:
    """A browser at an app in this process, logged in for `organization` if one is given."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        visit = Visit(client)
        if organization is not None:
            response = await visit.log_in(organization, key)
            assert response.status_code == 303, response.text
        yield visit
