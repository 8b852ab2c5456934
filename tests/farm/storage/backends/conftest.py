"""What tests of all kinds of storage need."""

from pathlib import Path

import pytest


@pytest.fixture
def back(tmp_path: Path) -> Path:
    """A file to be replaced, alone in its directory."""
    (tmp_path / "back").mkdir()
    file = tmp_path / "back" / "film.mp4"
    file.write_bytes(b"what was there")
    return file
