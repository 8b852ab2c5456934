"""API keys, and the secret that signs download links.

Keys come from the settings, and from Redis, which all APIs of a farm share
(`farm.credentials.shared_api_keys`). Each API has a mirror of these in a file in its data directory, readable
by the farm's user alone: there it looks keys up, and from there an emptied Redis is filled again. Both only
ever gain keys, and ids of revoked ones, so the two are joined, whatever happened to either.

Of a key only its SHA-256 is kept, so a key that was lost cannot be read back, only replaced. No slow hash is
needed: slowness makes guessing dear where people choose passwords, and a key that the farm makes has 256
random bits, which nobody can guess at any speed. Keys in the settings may be weaker; they are never written
anywhere, and the API counts wrong guesses (see `api.services.rate_limit`).

The file is only ever replaced as a whole, under a lock, so whoever reads it needs none.
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
"""What every key made here begins with, so that people and secret scanners know one when they see it."""

_KEYS_FILE: Final = "api-keys.json"

_LOCK_SECONDS: Final = 5.0
"""How long a change of the file waits for another one; each takes milliseconds."""

_POLL_SECONDS: Final = 0.02

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_OrganizationId = Annotated[str, Field(pattern=f"^{ORGANIZATION_ID.pattern}$")]


class ApiKey(BaseModel):
    """What is known of an API key: whose it is, and its SHA-256 in hexadecimal."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=64)]
    organization_id: _OrganizationId
    hash: _Hash
    name: str = ""
    created: AwareDatetime | None = None
    """None of keys in the settings, and of those made before the farm wrote it down."""
    from_settings: Annotated[bool, Field(exclude=True)] = False


class _Kept(BaseModel):
    """Keys, in the order they were made, and the ids of those that were revoked."""

    model_config = ConfigDict(frozen=True)

    version: Literal[2] = 2
    keys: tuple[ApiKey, ...] = ()
    revoked: tuple[str, ...] = ()


class _File(_Kept):
    keys: tuple[ApiKey, ...]


_FORMATS: Final = TypeAdapter[_File | dict[_OrganizationId, tuple[_Hash, ...]]](
    _File | dict[_OrganizationId, tuple[_Hash, ...]]
)
"""The file as it is written, and as it was before keys had ids: the hashes of each organization's keys."""


class NewKey(NamedTuple):
    """A key that was made just now, and its text, which is known only here and now."""

    key: ApiKey
    text: str


class FileVersion(NamedTuple):
    """Which version of a file is there: each has a number of its own or was written at another time."""

    inode: int
    modified_ns: int
    size: int


class ApiKeys:
    """The API keys of all organizations: those of the settings, and those in the file as it is now.

    It asks nothing of Redis, so that no request waits for one more answer; see `sync_api_keys`.

    May be used by several threads at once.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError when the file cannot be read."""
        self._path = settings.data_dir / _KEYS_FILE
        self._of_settings = _by_hash(_keys_of_settings(settings.api_keys))
        # The version first: if the file is replaced meanwhile, it is read once more, not once too few.
        version = _version_of(self._path)
        keys: Mapping[str, ApiKey] = _by_hash(_read(self._path).keys)
        self._kept = version, keys

    def find(self, text: str) -> ApiKey | None:
        """The key with this text, or None.

        The time it takes tells nothing about the keys: all that is compared are hashes, and nobody can choose
        a text by the beginning of its hash.
        """
        digest = _hash(text)
        return self._of_settings.get(digest) or self._keys_of_file().get(digest)

    def is_valid(self, key: ApiKey) -> bool:
        """Whether a key that was found opens anything still."""
        return key.hash in self._of_settings or key.hash in self._keys_of_file()

    def with_id(self, key_id: str) -> ApiKey | None:
        """The key with this id, if it opens anything still."""
        every = (*self._of_settings.values(), *self._keys_of_file().values())
        return next((key for key in every if key.id == key_id), None)

    def organizations(self) -> frozenset[str]:
        """The organizations that have a key."""
        every = (*self._of_settings.values(), *self._keys_of_file().values())
        return frozenset(key.organization_id for key in every)

    def file_version(self) -> FileVersion | None:
        """Another one after each change of the file; None while there is none. Raises OSError."""
        return _version_of(self._path)

    def _keys_of_file(self) -> Mapping[str, ApiKey]:
        version, keys = self._kept
        present = version
        try:
            present = _version_of(self._path)
            if present != version:
                keys = _by_hash(_read(self._path).keys)
        except (OSError, SettingsError) as error:
            # The farm replaces the file whole, so it is somebody else's doing: what was good goes on.
            logger.error("the API keys stay as they were: %s", error)
        # Not before it is read: another thread would take the old keys for those of the new file.
        if present != version:
            self._kept = present, keys
        return keys


class LoadedKeys(NamedTuple):
    """The API keys, and the credentials (`organization:key`) made just now, to be shown once, or None."""

    keys: ApiKeys
    made: str | None


class SyncedKeys(NamedTuple):
    """The versions of file and Redis after they were joined, and credentials as in `LoadedKeys`."""

    file: FileVersion | None
    redis: bytes | None
    made: str | None


def load_api_keys(settings: Settings) -> LoadedKeys:
    """The keys of the settings, the data directory and Redis; a first one is made where there is none of all.

    While a Redis of the settings is away, none is made: the one who finds it there calls `sync_api_keys`.
    Raises SettingsError when the file in the data directory cannot be read or written.
    """
    made = None
    try:
        with _redis_of(settings, retries=0) as client:
            made = sync_api_keys(settings, client).made
    except (redis.RedisError, ValidationError) as error:
        logger.warning("the API keys are those of the data directory until Redis is there: %s", error)
    return LoadedKeys(ApiKeys(settings), made)


def sync_api_keys(settings: Settings, client: redis.Redis | None) -> SyncedKeys:
    """Have the data directory and Redis know of all keys that either knows of, and of all that are revoked.

    Without a client there is no Redis. Raises SettingsError when the file in the data directory cannot be
    read or written, redis.RedisError.
    """
    path = settings.data_dir / _KEYS_FILE
    version = _version_of(path)
    shared = read_shared(client) if client else None
    is_first = not settings.api_keys and version is None and (shared is None or shared.version is None)
    if not is_first and (shared is None or _tell_the_same(_read(path), _kept_of(shared))):
        return SyncedKeys(version, shared.version if shared else None, None)
    with _locked(path):
        new = None
        # Of several processes starting at once, one makes it.
        if is_first and not path.exists() and (client is None or begin_shared(client)):
            new = _new_key(FIRST_ORGANIZATION, "made on the first start")
        made = f"{new.key.organization_id}:{new.text}" if new else None
        redis_version = _join(path, client, _Kept(keys=(new.key,) if new else ()))
        return SyncedKeys(_version_of(path), redis_version, made)


def create_api_key(settings: Settings, organization_id: str, name: str = "") -> NewKey:
    """Make a key for an organization, and keep its hash.

    Raises SettingsError when the file in the data directory cannot be read or written, redis.RedisError.
    """
    new = _new_key(organization_id, name)
    path = settings.data_dir / _KEYS_FILE
    with _redis_of(settings) as client, _locked(path):
        _join(path, client, _Kept(keys=(new.key,)))
    return new


def list_api_keys(settings: Settings) -> list[ApiKey]:
    """All keys, those of the settings first, each in the order they were made.

    Raises SettingsError when the file in the data directory cannot be read, redis.RedisError.
    """
    with _redis_of(settings) as client:
        of_redis = _kept_of(read_shared(client) if client else None)
    kept = _joined(_read(settings.data_dir / _KEYS_FILE), of_redis)
    return [*_keys_of_settings(settings.api_keys), *kept.keys]


def revoke_api_key(settings: Settings, key_id: str) -> ApiKey:
    """Forget a key, so that it opens nothing any more; returns what was known of it.

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
        _join(path, client, _Kept(revoked=(key_id,)))
    return key


@contextmanager
def _redis_of(settings: Settings, **options: int) -> Iterator[redis.Redis | None]:
    """A client of the farm's Redis; None if that is its own, and not running."""
    if settings.redis_url is None and not answers(settings):
        yield None
        return
    with connect(settings.redis_address, **options) as client:
        yield client


def _join(path: Path, client: redis.Redis | None, news: _Kept) -> bytes | None:
    """Bring file and Redis together, and `news` into both; returns Redis' version. Hold the file's lock."""
    of_file = _read(path)
    shared = read_shared(client) if client else None
    of_redis = _kept_of(shared)
    kept = _joined(of_file, of_redis, news)
    version = shared.version if shared else None
    # Redis first: if that fails nothing has changed, and whoever tries again is not told that all is well.
    if client and not _tell_the_same(kept, of_redis):
        version = write_shared(client, {key.id: key.model_dump_json() for key in kept.keys}, kept.revoked)
    if not _tell_the_same(kept, of_file):
        _write(path, kept)
    return version


def _joined(*parts: _Kept) -> _Kept:
    """What all of them know together: a key that one knows to be revoked is revoked."""
    revoked = {key_id for part in parts for key_id in part.revoked}
    keys: dict[str, ApiKey] = {}
    for key in (key for part in parts for key in part.keys if key.id not in revoked):
        keys.setdefault(key.id, key)
    # Those without a time were made before there was any.
    in_order = sorted(keys.values(), key=lambda key: key.created or _LONG_AGO)
    return _Kept(keys=tuple(in_order), revoked=tuple(sorted(revoked)))


def _tell_the_same(one: _Kept, other: _Kept) -> bool:
    return {key.id for key in one.keys} == {key.id for key in other.keys} and one.revoked == other.revoked


def _kept_of(shared: Shared | None) -> _Kept:
    if shared is None:
        return _Kept()
    keys = tuple(ApiKey.model_validate_json(text) for text in shared.keys.values())
    return _joined(_Kept(keys=keys, revoked=tuple(shared.revoked)))


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
    # Hashed once more, so that the id, which is shown, says nothing of a hash that somebody chose the key of.
    key_id = _hash(f"{organization_id}:{digest}")[:16]
    return ApiKey(id=key_id, organization_id=organization_id, hash=digest, from_settings=from_settings)


def _version_of(path: Path) -> FileVersion | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileVersion(found.st_ino, found.st_mtime_ns, found.st_size)


def _read(path: Path) -> _Kept:
    """What the file says; nothing if there is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return _Kept()
    except OSError as error:
        raise unusable(path, error) from error
    try:
        found = _FORMATS.validate_json(content)
    except ValidationError:
        raise SettingsError(
            f"{path} is damaged; restore it, or delete it and make new keys with `farm keys create`"
        ) from None
    if isinstance(found, _File):
        return _Kept(keys=found.keys, revoked=found.revoked)
    return _Kept(
        keys=tuple(
            _key_without_id(organization, digest)
            for organization, hashes in found.items()
            for digest in hashes
        )
    )


def _write(path: Path, kept: _Kept) -> None:
    """Replace the file; whoever reads it at any moment finds the old one or the new one, whole."""
    content = json.dumps(kept.model_dump(mode="json"), indent=2) + "\n"
    write_file(path, content, mode=0o600)


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """Change the file at `path` while nobody else does. Raises SettingsError when the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file of its own, because `path` itself is replaced; and NFS locks no directories.
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
