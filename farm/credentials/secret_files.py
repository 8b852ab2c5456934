"""Files of secrets in the data directory, readable by the farm's user alone."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
            # Another process may be quicker; then its file counts.
            with draft_of(path, make()) as draft, suppress(FileExistsError):
                path.hardlink_to(draft)
        return path.read_text()
    except OSError as error:
        raise unusable(path, error) from error


@contextmanager
def draft_of(path: Path, content: str) -> Iterator[Path]:
    """A file beside `path` with that content, safe on the disk; what becomes of it is done in the block."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def unusable(path: Path, error: OSError) -> SettingsError:
    """What to raise when a file in the data directory cannot be read or written."""
    return SettingsError(f"FARM_DATA_DIR: {path} cannot be read or written: {error.strerror}")
