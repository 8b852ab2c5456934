"""Files of secrets in the data directory, readable by the farm's user alone."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from farm.errors import SettingsError


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """What the file holds; if there is none it is made, holding what `make` gives.

    Of several processes starting at once one makes it, and no other ever reads half of it. Raises
    SettingsError when the file cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path, make())
        return path.read_text()
    except OSError as error:
        raise SettingsError(f"FARM_DATA_DIR: {path} cannot be read or made: {error.strerror}") from error


def _make(path: Path, content: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another process was quicker, and its file counts
    finally:
        draft.unlink()
