"""Files of secrets in the data directory, readable by the farm's user alone."""

from collections.abc import Callable
from pathlib import Path

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.errors import SettingsError


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """What the file holds; if there is none it is made, holding what `make` gives.

    Of several processes starting at once one makes it, and no other ever reads half of it. Raises
    SettingsError when the file cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # Another process may be quicker; then its file counts.
            write_file(path, make(), mode=0o600, replace=False)
        return path.read_text()
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> SettingsError:
    """What to raise when a file in the data directory cannot be read or written."""
    return SettingsError(f"FARM_DATA_DIR: {path} cannot be read or written: {error.strerror}")
