"""API keys.

Keys come from the settings and from Redis, which all APIs of a farm share
(`farm.credentials.shared_api_keys`). Each API mirrors Redis in a file in its data directory, readable only by
the farm's user. Lookups use the file, and an emptied Redis is restored from it. Both only gain keys and ids
of revoked keys, so they can always be merged.

Only the SHA-256 of a key is stored, so a lost key cannot be recovered, only replaced. A slow hash is not
needed: it protects passwords that people choose, while generated keys have 256 random bits. Keys in the
settings may be weaker; they are never stored, and the API limits wrong guesses (`api.services.rate_limit`).

The file is replaced atomically under a lock, so readers need no lock.
"""

import fcntl
import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import redis
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.clock import now
from recording_farm.farm.config.parsing import ORGANIZATION_ID, OrganizationKey
from recording_farm.farm.config.settings import FIRST_ORGANIZATION, Settings
from recording_farm.farm.credentials.secret_files import unusable
from recording_farm.farm.credentials.shared_api_keys import Shared, begin_shared, read_shared, write_shared
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.embedded import answers
from recording_farm.farm.errors import NotFoundError, SettingsError

logger = logging.getLogger(__name__)

KEY_PREFIX: Final = "farm_"
"""Prefix of generated keys, by which people and secret scanners recognize them."""

_KEYS_FILE: Final = "api-keys.json"

_LOCK_SECONDS: Final = 5.0
"""Time-out of the lock of the file; a change takes milliseconds."""

_POLL_SECONDS: Final = 0.02

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_OrganizationId = Annotated[str, Field(pattern=f"^{ORGANIZATION_ID.pattern}$")]


class ApiKey(BaseModel):
    """An API key: its organization, and its SHA-256 in hexadecimal."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=64)]
    organization_id: _OrganizationId
    hash: _Hash
    name: str = ""
    created: AwareDatetime | None = None
    """None for keys in the settings, and for keys of old versions."""
    from_settings: Annotated[bool, Field(exclude=True)] = False


class _KeySet(BaseModel):
    """Keys in the order of their creation, and the ids of revoked keys."""

    model_config = ConfigDict(frozen=True)

    version: Literal[2] = 2
    keys: tuple[ApiKey, ...] = ()
    revoked: tuple[str, ...] = ()


class _File(_KeySet):
    keys: tuple[ApiKey, ...]


_FORMATS: Final = TypeAdapter[_File | dict[_OrganizationId, tuple[_Hash, ...]]](
    _File | dict[_OrganizationId, tuple[_Hash, ...]]
)
"""The current format of the file, and the old one, without ids: key hashes by organization."""


class NewKey(NamedTuple):
    """A new key and its text, which is not stored."""

    key: ApiKey
    text: str


class FileVersion(NamedTuple):
    """Identifies a version of a file."""

    inode: int
    modified_ns: int
    size: int


class ApiKeys:
    """The API keys of all organizations, from the settings and the current file.

    Lookups do not use Redis, so that requests do not wait for it; see `sync_api_keys`. Thread-safe.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError when the file cannot be read."""
        self._path = settings.data_dir / _KEYS_FILE
        self._of_settings = _by_hash(_keys_of_settings(settings.api_keys))
        # The version first: if the file is replaced meanwhile, it is read again.
        version = _version_of(self._path)
        keys: Mapping[str, ApiKey] = _by_hash(_read(self._path).keys)
        self._kept = version, keys

    def find(self, text: str) -> ApiKey | None:
        """The key with this text, or None.

        Timing reveals nothing about the keys: only hashes are compared, and nobody can choose a text by a
        prefix of its hash.
        """
        digest = _hash(text)
        return self._of_settings.get(digest) or self._keys_of_file().get(digest)

    def is_valid(self, key: ApiKey) -> bool:
        """Whether a key is still valid."""
        return key.hash in self._of_settings or key.hash in self._keys_of_file()

    def with_id(self, key_id: str) -> ApiKey | None:
        """The valid key with this id, or None."""
        every = (*self._of_settings.values(), *self._keys_of_file().values())
        return next((key for key in every if key.id == key_id), None)

    def organizations(self) -> frozenset[str]:
        """The organizations that have a key."""
        every = (*self._of_settings.values(), *self._keys_of_file().values())
        return frozenset(key.organization_id for key in every)

    def file_version(self) -> FileVersion | None:
        """The version of the file; None if there is no file. Raises OSError."""
        return _version_of(self._path)

    def _keys_of_file(self) -> Mapping[str, ApiKey]:
        version, keys = self._kept
        present = version
        try:
            present = _version_of(self._path)
            if present != version:
                keys = _by_hash(_read(self._path).keys)
        except (OSError, SettingsError) as error:
            # The farm replaces the file atomically, so something else broke it: keep the last good keys.
            logger.error("the API keys are not reloaded: %s", error)
        # Only after reading: another thread would take the old keys for those of the new file.
        if present != version:
            self._kept = present, keys
        return keys


class LoadedKeys(NamedTuple):
    """The API keys, and the credentials (`organization:key`) of a new first key, shown once, or None."""

    keys: ApiKeys
    made: str | None


class SyncedKeys(NamedTuple):
    """The versions of file and Redis after the merge, and credentials as in `LoadedKeys`."""

    file: FileVersion | None
    redis: bytes | None
    made: str | None


def load_api_keys(settings: Settings) -> LoadedKeys:
    """Load the keys of the settings, the data directory and Redis; create the first key if there is none.

    While Redis is away, no key is created; `sync_api_keys` does it later. Raises SettingsError when the file
    in the data directory cannot be read or written.
    """
    made = None
    try:
        with _redis_of(settings, retries=0) as client:
            made = sync_api_keys(settings, client).made
    except (redis.RedisError, ValidationError) as error:
        logger.warning("using the API keys of the data directory until Redis is available: %s", error)
    return LoadedKeys(ApiKeys(settings), made)


def sync_api_keys(settings: Settings, client: redis.Redis | None) -> SyncedKeys:
    """Merge the keys and revocations of the data directory and of Redis, and store the result in both.

    Without a client there is no Redis. Raises SettingsError when the file in the data directory cannot be
    read or written, redis.RedisError.
    """
    path = settings.data_dir / _KEYS_FILE
    version = _version_of(path)
    shared = read_shared(client) if client else None
    is_first = not settings.api_keys and version is None and (shared is None or shared.version is None)
    if not is_first and (shared is None or _are_equal(_read(path), _key_set(shared))):
        return SyncedKeys(version, shared.version if shared else None, None)
    with _locked(path):
        new = None
        # If several processes start at once, exactly one creates the key.
        if is_first and not path.exists() and (client is None or begin_shared(client)):
            new = _new_key(FIRST_ORGANIZATION, "made on the first start")
        made = f"{new.key.organization_id}:{new.text}" if new else None
        redis_version = _merge_into_both(path, client, _KeySet(keys=(new.key,) if new else ()))
        return SyncedKeys(_version_of(path), redis_version, made)


def create_api_key(settings: Settings, organization_id: str, name: str = "") -> NewKey:
    """Create a key for an organization, and store its hash.

    Raises SettingsError when the file in the data directory cannot be read or written, redis.RedisError.
    """
    new = _new_key(organization_id, name)
    path = settings.data_dir / _KEYS_FILE
    with _redis_of(settings) as client, _locked(path):
        _merge_into_both(path, client, _KeySet(keys=(new.key,)))
    return new


def list_api_keys(settings: Settings) -> list[ApiKey]:
    """All keys, those of the settings first, in the order of their creation.

    Raises SettingsError when the file in the data directory cannot be read, redis.RedisError.
    """
    with _redis_of(settings) as client:
        of_redis = _key_set(read_shared(client) if client else None)
    kept = _merged(_read(settings.data_dir / _KEYS_FILE), of_redis)
    return [*_keys_of_settings(settings.api_keys), *kept.keys]


def revoke_api_key(settings: Settings, key_id: str) -> ApiKey:
    """Revoke a key, and return it.

    Raises NotFoundError, SettingsError when it is a key of the settings or the file cannot be read or
    written, redis.RedisError.
    """
    key = next((key for key in list_api_keys(settings) if key.id == key_id), None)
    if key is None:
        raise NotFoundError(f"no key has the id {key_id}; `farm keys list` shows them all")
    if key.from_settings:
        raise SettingsError(
            f"the key {key_id} comes from FARM_API_KEYS; take it out there and restart the API"
        )
    path = settings.data_dir / _KEYS_FILE
    with _redis_of(settings) as client, _locked(path):
        _merge_into_both(path, client, _KeySet(revoked=(key_id,)))
    return key


@contextmanager
def _redis_of(settings: Settings, **options: int) -> Iterator[redis.Redis | None]:
    """A client of Redis; None if the embedded Redis is in use and not running."""
    if settings.redis_url is None and not answers(settings):
        yield None
        return
    with connect(settings.redis_address, **options) as client:
        yield client


def _merge_into_both(path: Path, client: redis.Redis | None, changes: _KeySet) -> bytes | None:
    """Merge file, Redis and `changes` into both; returns Redis' version. The caller holds the file's lock."""
    of_file = _read(path)
    shared = read_shared(client) if client else None
    of_redis = _key_set(shared)
    kept = _merged(of_file, of_redis, changes)
    version = shared.version if shared else None
    # Redis first: if it fails, nothing has changed, and a retry starts over.
    if client and not _are_equal(kept, of_redis):
        version = write_shared(client, {key.id: key.model_dump_json() for key in kept.keys}, kept.revoked)
    if not _are_equal(kept, of_file):
        _write(path, kept)
    return version


def _merged(*parts: _KeySet) -> _KeySet:
    """The union of keys and of revocations; revocations take precedence."""
    revoked = {key_id for part in parts for key_id in part.revoked}
    keys: dict[str, ApiKey] = {}
    for key in (key for part in parts for key in part.keys if key.id not in revoked):
        keys.setdefault(key.id, key)
    # Keys without a time are the oldest.
    in_order = sorted(keys.values(), key=lambda key: key.created or _LONG_AGO)
    return _KeySet(keys=tuple(in_order), revoked=tuple(sorted(revoked)))


def _are_equal(one: _KeySet, other: _KeySet) -> bool:
    return {key.id for key in one.keys} == {key.id for key in other.keys} and one.revoked == other.revoked


def _key_set(shared: Shared | None) -> _KeySet:
    if shared is None:
        return _KeySet()
    keys = tuple(ApiKey.model_validate_json(text) for text in shared.keys.values())
    return _merged(_KeySet(keys=keys, revoked=tuple(shared.revoked)))


def _new_key(organization_id: str, name: str) -> NewKey:
    text = KEY_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        id=secrets.token_hex(8),
        organization_id=organization_id,
        hash=_hash(text),
        name=name,
        created=now().replace(microsecond=0),
    )
    return NewKey(key, text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _by_hash(keys: tuple[ApiKey, ...]) -> dict[str, ApiKey]:
    return {key.hash: key for key in keys}


def _keys_of_settings(entries: tuple[OrganizationKey, ...]) -> tuple[ApiKey, ...]:
    return tuple(
        _key_without_id(organization_id, _hash(key.get_secret_value()), from_settings=True)
        for organization_id, key in entries
    )


def _key_without_id(organization_id: str, digest: str, *, from_settings: bool = False) -> ApiKey:
    # Hashed again, so that the public id does not reveal the hash of a key that may be weak.
    key_id = _hash(f"{organization_id}:{digest}")[:16]
    return ApiKey(id=key_id, organization_id=organization_id, hash=digest, from_settings=from_settings)


def _version_of(path: Path) -> FileVersion | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileVersion(found.st_ino, found.st_mtime_ns, found.st_size)


def _read(path: Path) -> _KeySet:
    """The content of the file; empty if there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return _KeySet()
    except OSError as error:
        raise unusable(path, error) from error
    try:
        found = _FORMATS.validate_json(content)
    except ValidationError:
        raise SettingsError(
            f"{path} is damaged; restore it, or delete it and create new keys with `farm keys create`"
        ) from None
    if isinstance(found, _File):
        return _KeySet(keys=found.keys, revoked=found.revoked)
    return _KeySet(
        keys=tuple(
            _key_without_id(organization, digest)
            for organization, hashes in found.items()
            for digest in hashes
        )
    )


def _write(path: Path, kept: _KeySet) -> None:
    """Replace the file atomically."""
    content = json.dumps(kept.model_dump(mode="json"), indent=2) + "\n"
    write_file(path, content, mode=0o600)


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """Hold the lock of the file at `path`. Raises SettingsError when the disk fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A separate file, because `path` itself is replaced, and NFS does not lock directories.

        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _wait_for(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB), path)
            yield path
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unusable(path, error) from error


def _wait_for(lock: Callable[[], None], path: Path) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return lock()
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SettingsError(f"{path} is being changed by another process; try again") from None
            time.sleep(_POLL_SECONDS)
