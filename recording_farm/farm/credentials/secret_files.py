"""Secret files in the data directory, readable only by the farm's user."""

from collections.abc import Callable
from pathlib import Path

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.errors import SettingsError


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """The content of a file, which is created with the result of `make` if it is missing.

    Atomic: if several processes start at once, all get the same content. Raises SettingsError when the file
    cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # If another process is faster, its file is used.
            write_file(path, make(), mode=0o600, replace=False)
        return path.read_text()
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> SettingsError:
    """The error for a file in the data directory that cannot be read or written."""
    return SettingsError(f"FARM_DATA_DIR: {path} cannot be read or written: {error.strerror}")
