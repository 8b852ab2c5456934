"""The store of finished files: a directory, an S3 bucket or an Azure container.

Keys of files begin with the recording's id. Small objects, which are the end of the spool of a recording that
runs, are in a hidden directory. The farm serves files of a directory itself; other backends sign links.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.config.store_url import StoreKind, StoreLocation
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.errors import NotFoundError, SettingsError
from recording_farm.farm.storage.backend import Checkpoint, Part, StorageError, StoreBackend, StoredObject
from recording_farm.farm.storage.backends.directory import DirectoryBackend
from recording_farm.farm.storage.backends.encrypted_directory import EncryptedDirectoryBackend
from recording_farm.farm.storage.backends.stored_file import StoredFile
from recording_farm.farm.storage.content_types import content_type
from recording_farm.farm.storage.parts import (
    AdoptableParts,
    Data,
    PartRules,
    SentPart,
    UnfinishedParts,
    no_parts,
)

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
"""Valid names of files. A leading dot is reserved for incomplete copies."""


_SPOOL: Final = ".spool"
"""Directory of small objects: `.spool/<recording>/<name>`, so that a rule of the bucket can expire them."""

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class UnfinishedFile:
    """An upload in parts that was begun and is neither finished nor aborted, and when it began."""

    recording_id: UUID
    name: str
    begun: dict[str, Any]
    began: datetime


class Store:
    """Finished files, by recording and name.

    Methods raise StorageError when the backend fails, ValueError for an invalid name.
    """

    def __init__(self, backend: StoreBackend, prefix: str = "") -> None:
        """`prefix`, which starts every key, is empty or ends with a slash."""
        self._backend = backend
        self._prefix = prefix

    def put(self, recording_id: UUID | str, source: Path, name: str, checkpoint: Checkpoint) -> StoredObject:
        """Upload a file atomically, resuming an earlier attempt."""
        return self._backend.upload(source, self._key(recording_id, name), checkpoint, content_type(name))

    def fetch(self, recording_id: UUID | str, name: str, target: Path) -> None:
        """Download a file to `target`."""
        self._backend.fetch(self._key(recording_id, name), target)

    def link(self, recording_id: UUID | str, name: str, seconds: int) -> str | None:
        """A signed link, valid for `seconds`; None when the farm must serve the file itself."""
        return self._backend.link(self._key(recording_id, name), seconds, name, content_type(name))

    def open(self, recording_id: UUID | str, name: str) -> StoredFile:
        """Open a file of a directory store for reading.

        Raises NotFoundError, also for invalid names and ids, and for other backends.
        """
        missing = NotFoundError(f"recording {recording_id} has no file {name}; it may have expired")
        if not isinstance(self._backend, DirectoryBackend):
            raise missing
        try:
            return self._backend.open(self._key(recording_id, name))
        except (ValueError, NotFoundError):
            raise missing from None

    def delete(self, recording_id: UUID | str, name: str) -> None:
        """Delete a file; a missing file is no error."""
        self._backend.delete(self._key(recording_id, name))

    def takes_links_from(self, directory: Path) -> bool:
        """Whether files of a directory arrive by a hard link, in no time."""
        return isinstance(self._backend, DirectoryBackend) and self._backend.takes_links_from(directory)

    @property
    def part_rules(self) -> PartRules:
        """See `PartsBackend`."""
        return self._in_parts.part_rules

    def begin_parts(self, recording_id: UUID | str, name: str) -> dict[str, Any]:
        """Open an upload in parts; see `PartsBackend` for this and the following methods."""
        return self._in_parts.begin_parts(self._key(recording_id, name), content_type(name))

    def send_part(
        self, recording_id: UUID | str, name: str, begun: dict[str, Any], part: Part, data: Data
    ) -> dict[str, Any]:
        """Send a part; returns its receipt."""
        return self._in_parts.send_part(self._key(recording_id, name), begun, part, data)

    def finish_parts(
        self, recording_id: UUID | str, name: str, begun: dict[str, Any], sent: Sequence[SentPart]
    ) -> StoredObject:
        """Make the file of its parts."""
        return self._in_parts.finish_parts(self._key(recording_id, name), begun, sent)

    def abort_parts(self, recording_id: UUID | str, name: str, begun: dict[str, Any]) -> None:
        """Drop an upload; a missing one is no error."""
        self._in_parts.abort_parts(self._key(recording_id, name), begun)

    def adopt_parts(self, recording_id: UUID | str, name: str, begun: dict[str, Any]) -> dict[str, Any]:
        """Take an upload over from another node; see `AdoptableParts`, which not every backend has to be."""
        if not isinstance(self._backend, AdoptableParts):
            return begun
        return self._backend.adopt_parts(self._key(recording_id, name), begun)

    def unfinished_parts(self, recording_id: UUID | None = None) -> Iterator[UnfinishedFile]:
        """The unfinished uploads of a recording, or of all; uploads of others to the bucket are left out."""
        prefix = f"{self._prefix}{recording_id}/" if recording_id else self._prefix
        for each in self._in_parts.unfinished_parts(prefix):
            directory, _, name = each.key.removeprefix(self._prefix).rpartition("/")
            if _ID.fullmatch(directory) and _NAME.fullmatch(name):
                yield UnfinishedFile(UUID(directory), name, each.begun, each.began)

    def put_bytes(self, recording_id: UUID | str, name: str, data: Data) -> None:
        """Write a small object of a recording's spool, which is no file of the recording."""
        self._backend.put_bytes(self._spool_key(recording_id, name), data)

    def get_bytes(self, recording_id: UUID | str, name: str, limit: int) -> bytes:
        """Read a small object of a recording's spool of at most `limit` bytes.

        Raises StorageError, with the reason `not_found` when it is missing.
        """
        return self._backend.get_bytes(self._spool_key(recording_id, name), limit)

    def list_names(self, recording_id: UUID | str) -> Iterator[str]:
        """The names of a recording's small objects."""
        prefix = self._spool_of(recording_id)
        return (key.removeprefix(prefix) for key in self._backend.list_keys(prefix))

    def delete_many(self, recording_id: UUID | str, names: Iterable[str]) -> None:
        """Delete small objects of a recording; missing ones are no error."""
        self._backend.delete_many([self._spool_key(recording_id, name) for name in names])

    def delete_spool(self, recording_id: UUID | str) -> None:
        """Delete all small objects of a recording."""
        self._backend.delete_all(self._spool_of(recording_id))

    def spooled(self) -> Iterator[UUID]:
        """The recordings that have small objects, each once."""
        prefix = f"{self._prefix}{_SPOOL}/"
        seen = set()
        for key in self._backend.list_keys(prefix):
            recording_id = key.removeprefix(prefix).partition("/")[0]
            if recording_id not in seen and _ID.fullmatch(recording_id):
                seen.add(recording_id)
                yield UUID(recording_id)

    def _spool_of(self, recording_id: UUID | str) -> str:
        return f"{self._prefix}{_SPOOL}/{UUID(str(recording_id))}/"

    def _spool_key(self, recording_id: UUID | str, name: str) -> str:
        return f"{self._spool_of(recording_id)}{_checked(name)}"

    @property
    def _in_parts(self) -> UnfinishedParts:
        if not isinstance(self._backend, UnfinishedParts):
            raise no_parts("it is of a kind that has none")
        return self._backend

    def check(self) -> None:
        """Write, read back and delete a small object."""
        self._backend.check()

    def _key(self, recording_id: UUID | str, name: str) -> str:
        return f"{self._prefix}{UUID(str(recording_id))}/{_checked(name)}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a file in the store has a plain name of letters, digits, dots, dashes, underscores")
    return name


def open_store(settings: Settings) -> Store:
    """Open the store of the settings, without reading or writing it.

    Raises SettingsError for settings that do not fit, or when the farm's secret key cannot be read.
    """
    location = settings.store_location
    try:
        return Store(_backend(location, settings), location.prefix)
    except StorageError as error:
        raise SettingsError(f"FARM_STORE_URL: {error.message}") from None


def _backend(location: StoreLocation, settings: Settings) -> StoreBackend:
    if location.kind is StoreKind.DIRECTORY:
        assert location.directory is not None
        if settings.store_encryption:
            return EncryptedDirectoryBackend(location.directory, load_secret_key(settings))
        return DirectoryBackend(location.directory)
    if settings.store_encryption:
        raise SettingsError("FARM_STORE_ENCRYPTION is for a directory; have the bucket encrypt its objects")
    key = settings.store_secret.get_secret_value() if settings.store_secret else None
    # The imports are slow, and each job has its own process.
    if location.kind is StoreKind.S3:
        from recording_farm.farm.storage.backends.s3 import S3Backend
        from recording_farm.farm.storage.backends.s3_client import S3Bucket

        return S3Backend(
            S3Bucket(location.bucket, settings.store_access_key, key, location.region, location.endpoint)
        )
    if key is None:
        raise SettingsError("an azure:// store needs FARM_STORE_SECRET, the account's connection string")
    from recording_farm.farm.storage.backends.azure import AzureBackend, AzureContainer

    backend = AzureBackend(AzureContainer(location.bucket, key))
    if backend.link("a", 1, "a", "text/plain") is None:
        raise SettingsError(
            "the FARM_STORE_SECRET of an azure:// store needs an AccountKey, which signs links"
        )
    return backend
