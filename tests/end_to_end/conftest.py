"""Nothing of a test is left running."""

import pytest


@pytest.fixture(autouse=True)
def _always(nothing_is_left_behind: None) -> None:
    pass
