"""Identity of the store: the same text on every machine with the same store."""

from secrets import token_hex
from typing import Final

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.config.store_url import StoreKind, StoreLocation

_ID_FILE: Final = ".recording-farm-store"
"""File with the random id of a directory store. Names of recordings' files never begin with a dot."""


def store_identity(location: StoreLocation) -> str:
    """A text that identifies the store.

    The same path on two machines may be two directories, so a directory gets a file with a random id on first
    use. Raises OSError when the directory cannot be read or written.
    """
    if location.kind is not StoreKind.DIRECTORY:
        return (
            f"{location.kind}://{location.bucket}/{location.prefix} at {location.endpoint or 'the default'}"
        )
    assert location.directory is not None
    path = location.directory / _ID_FILE
    if not path.exists():
        location.directory.mkdir(parents=True, exist_ok=True)
        write_file(path, token_hex(16), replace=False)
    return path.read_text()
