"""Who looks at the portal's pages."""

from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette

from testkit.api.portal import Visit, visit_of


@pytest.fixture
async def stranger(app: Starlette) -> AsyncIterator[Visit]:
    """Somebody who is not logged in."""
    async with visit_of(app) as visit:
        yield visit


@pytest.fixture
async def acme(app: Starlette) -> AsyncIterator[Visit]:
    """An administrator of the farm: the organization of the first key in the settings."""
    async with visit_of(app, "acme", "acme-key") as visit:
        yield visit


@pytest.fixture
async def other(app: Starlette) -> AsyncIterator[Visit]:
    """Somebody else."""
    async with visit_of(app, "other", "other-key") as visit:
        yield visit
