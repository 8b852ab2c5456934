"""The store: the farm's own place for finished files, in a directory, an S3 bucket or an Azure container.

A recording's files lie under its id. Files in a directory are served by the farm itself; the other places
make links of their own.
"""

import re
from pathlib import Path
from typing import Final
from uuid import UUID

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.config.store_url import StoreKind, StoreLocation
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.errors import NotFoundError, SettingsError
from recording_farm.farm.storage.backend import Checkpoint, Placed, StorageError, StorePlace
from recording_farm.farm.storage.backends.directory import DirectoryPlace
from recording_farm.farm.storage.backends.encrypted_directory import EncryptedDirectoryPlace
from recording_farm.farm.storage.backends.stored_file import StoredFile
from recording_farm.farm.storage.content_types import content_type

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
"""What a file in the store may be called. None begins with a dot: those are copies that are not whole yet."""


class Store:
    """Finished files, by recording and name.

    Raises StorageError when the place fails, ValueError for a name that is not a plain file name.
    """

    def __init__(self, place: StorePlace, prefix: str = "") -> None:
        """`prefix`, which all keys begin with, is empty or ends with a slash."""
        self._place = place
        self._prefix = prefix

    def put(self, recording_id: UUID | str, source: Path, name: str, checkpoint: Checkpoint) -> Placed:
        """Copy a file into the store, from where an earlier try was; it is there whole or not at all."""
        return self._place.upload(source, self._key(recording_id, name), checkpoint, content_type(name))

    def fetch(self, recording_id: UUID | str, name: str, target: Path) -> None:
        """Bring a file back to `target` on this machine."""
        self._place.fetch(self._key(recording_id, name), target)

    def link(self, recording_id: UUID | str, name: str, seconds: int) -> str | None:
        """A link of the place's own, valid for so long; None when the farm has to serve the file itself."""
        return self._place.link(self._key(recording_id, name), seconds, name, content_type(name))

    def open(self, recording_id: UUID | str, name: str) -> StoredFile:
        """A file in a directory of this machine, to be read.

        Raises NotFoundError, also for names and ids that could not be in the store, and for a store
        elsewhere.
        """
        missing = NotFoundError(f"recording {recording_id} has no file {name}; it may have expired")
        if not isinstance(self._place, DirectoryPlace):
            raise missing
        try:
            return self._place.open(self._key(recording_id, name))
        except (ValueError, NotFoundError):
            raise missing from None

    def delete(self, recording_id: UUID | str, name: str) -> None:
        """Delete a file; one that is not there is no error."""
        self._place.delete(self._key(recording_id, name))

    def check(self) -> None:
        """Write, read back and delete a small object."""
        self._place.check()

    def _key(self, recording_id: UUID | str, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                "a file in the store has a plain name of letters, digits, dots, dashes, underscores"
            )
        return f"{self._prefix}{UUID(str(recording_id))}/{name}"


def open_store(settings: Settings) -> Store:
    """Open the store of the settings.

    Nothing in it is read or written yet. Raises SettingsError when it cannot be what the settings say, or the
    farm's secret key cannot be read.
    """
    location = settings.store_location
    try:
        return Store(_place(location, settings), location.prefix)
    except StorageError as error:
        raise SettingsError(f"FARM_STORE_URL: {error.message}") from None


def _place(location: StoreLocation, settings: Settings) -> StorePlace:
    if location.kind is StoreKind.DIRECTORY:
        assert location.directory is not None
        if settings.store_encryption:
            return EncryptedDirectoryPlace(location.directory, load_secret_key(settings))
        return DirectoryPlace(location.directory)
    if settings.store_encryption:
        raise SettingsError("FARM_STORE_ENCRYPTION is for a directory; have the bucket encrypt its objects")
    key = settings.store_secret.get_secret_value() if settings.store_secret else None
    # The libraries take long to load, and each job is a process of its own.
    if location.kind is StoreKind.S3:
        from recording_farm.farm.storage.backends.s3 import S3Bucket, S3Place

        return S3Place(
            S3Bucket(location.bucket, settings.store_access_key, key, location.region, location.endpoint)
        )
    if key is None:
        raise SettingsError("an azure:// store needs FARM_STORE_SECRET, the account's connection string")
    from recording_farm.farm.storage.backends.azure import AzureContainer, AzurePlace

    place = AzurePlace(AzureContainer(location.bucket, key))
    if place.link("a", 1, "a", "text/plain") is None:
        raise SettingsError(
            "the FARM_STORE_SECRET of an azure:// store needs an AccountKey, which signs links"
        )
    return place
