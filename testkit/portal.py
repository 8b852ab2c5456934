"""A client that is logged in to a portal, as a browser would be."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

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
