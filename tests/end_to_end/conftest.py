"""Nothing of a test is left running."""

from collections.abc import Iterator

import pytest

from testkit.processes import wait_until_none


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    assert wait_until_none() == []
