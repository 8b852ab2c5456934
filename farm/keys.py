"""API keys, and the secret that signs download links.

Keys come from the settings and from a file in the data directory, readable by the farm's user alone. Of a key
only its SHA-256 is kept, so a key that was lost cannot be read back, only replaced. No slow hash is needed:
slowness makes guessing dear where people choose passwords, and a key that the farm makes has 256 random bits,
which nobody can guess at any speed. Keys in the settings may be weaker; they are never written anywhere, and
the API counts wrong guesses (see `api.rate_limit`).

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
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from farm.errors import NotFound, SettingsError
from farm.recordings import now
from farm.secret_files import draft_of, read_or_make, unusable
from farm.settings import FIRST_ORGANIZATION, ORGANIZATION_ID, OrganizationKey, Settings

_LOG = logging.getLogger(__name__)

KEY_PREFIX: Final = "farm_"
"""What every key made here begins with, so that people and secret scanners know one when they see it."""

_KEYS_FILE: Final = "api-keys.json"
_SECRET_FILE: Final = "secret-key"  # noqa: S105 - the name of the file, not the secret

_LOCK_SECONDS: Final = 5.0
"""How long a change of the file waits for another one; each takes milliseconds."""

_POLL_SECONDS: Final = 0.02

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


class _File(BaseModel):
    version: Literal[2] = 2
    keys: tuple[ApiKey, ...]


_FORMATS: Final = TypeAdapter[_File | dict[_OrganizationId, tuple[_Hash, ...]]](
    _File | dict[_OrganizationId, tuple[_Hash, ...]]
)
"""The file as it is written, and as it was before keys had ids: the hashes of each organisation's keys."""


class NewKey(NamedTuple):
    """A key that was made just now, and its text, which is known only here and now."""

    key: ApiKey
    text: str


class _Version(NamedTuple):
    """Which version of a file is there: each has a number of its own or was written at another time."""

    inode: int
    modified_ns: int
    size: int


class ApiKeys:
    """The API keys of all organisations: those of the settings, and those in the file as it is now.

    May be used by several threads at once.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError when the file cannot be read."""
        self._path = settings.data_dir / _KEYS_FILE
        self._of_settings = _by_hash(_keys_of_settings(settings.api_keys))
        # The version first: if the file is replaced meanwhile, it is read once more, not once too few.
        version = _version_of(self._path)
        self._kept: tuple[_Version | None, Mapping[str, ApiKey]] = version, _by_hash(_read(self._path))

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

    def _keys_of_file(self) -> Mapping[str, ApiKey]:
        version, keys = self._kept
        present = version
        try:
            present = _version_of(self._path)
            if present != version:
                keys = _by_hash(_read(self._path))
        except (OSError, SettingsError) as error:
            # The farm replaces the file whole, so it is somebody else's doing: what was good goes on.
            _LOG.error("the API keys stay as they were: %s", error)
        # Not before it is read: another thread would take the old keys for those of the new file.
        if present != version:
            self._kept = present, keys
        return keys


class LoadedKeys(NamedTuple):
    """The API keys, and the credentials (`organisation:key`) made just now, to be shown once, or None."""

    keys: ApiKeys
    made: str | None


def load_api_keys(settings: Settings) -> LoadedKeys:
    """The keys of the settings and of the data directory; a first one is made where there is neither.

    Raises SettingsError when the file in the data directory cannot be read or written.
    """
    made = None if settings.api_keys else _make_first_key(settings.data_dir / _KEYS_FILE)
    return LoadedKeys(ApiKeys(settings), f"{made.key.organization_id}:{made.text}" if made else None)


def create_api_key(settings: Settings, organization_id: str, name: str = "") -> NewKey:
    """Make a key for an organisation, and keep its hash.

    Raises SettingsError when the file in the data directory cannot be read or written.
    """
    new = _new_key(organization_id, name)
    with _locked(settings.data_dir / _KEYS_FILE) as path:
        _write(path, (*_read(path), new.key))
    return new


def list_api_keys(settings: Settings) -> list[ApiKey]:
    """All keys, those of the settings first, each in the order they were made.

    Raises SettingsError when the file in the data directory cannot be read.
    """
    return [*_keys_of_settings(settings.api_keys), *_read(settings.data_dir / _KEYS_FILE)]


def revoke_api_key(settings: Settings, key_id: str) -> ApiKey:
    """Forget a key, so that it opens nothing any more; returns what was known of it.

    Raises NotFound, SettingsError when it is a key of the settings or the file cannot be read or written.
    """
    if any(key.id == key_id for key in _keys_of_settings(settings.api_keys)):
        raise SettingsError(
            f"the key {key_id} comes from FARM_API_KEYS; take it out there and restart the API"
        )
    path = settings.data_dir / _KEYS_FILE
    if not path.exists():
        raise _unknown(key_id)
    with _locked(path):
        keys = _read(path)
        revoked = next((key for key in keys if key.id == key_id), None)
        if revoked is None:
            raise _unknown(key_id)
        _write(path, tuple(key for key in keys if key is not revoked))
    return revoked


def load_secret_key(settings: Settings) -> bytes:
    """The secret that signs links: the one of the settings, or a random one kept in the data directory.

    Raises SettingsError when the file in the data directory cannot be read or written.
    """
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    return read_or_make(settings.data_dir / _SECRET_FILE, partial(secrets.token_hex, 32)).strip().encode()


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


def _make_first_key(path: Path) -> NewKey | None:
    if path.exists():
        return None
    with _locked(path):
        # Of several processes starting at once, one makes it.
        if path.exists():
            return None
        new = _new_key(FIRST_ORGANIZATION, "made on the first start")
        _write(path, (new.key,))
        return new


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


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"no key has the id {key_id}; `farm keys list` shows them all")


def _version_of(path: Path) -> _Version | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _Version(found.st_ino, found.st_mtime_ns, found.st_size)


def _read(path: Path) -> tuple[ApiKey, ...]:
    """The keys in the file; none if there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise unusable(path, error) from error
    try:
        found = _FORMATS.validate_json(content)
    except ValidationError:
        raise SettingsError(
            f"{path} is damaged; restore it, or delete it and make new keys with `farm keys create`"
        ) from None
    if isinstance(found, _File):
        return found.keys
    return tuple(
        _key_without_id(organization, digest) for organization, hashes in found.items() for digest in hashes
    )


def _write(path: Path, keys: tuple[ApiKey, ...]) -> None:
    """Replace the file; whoever reads it at any moment finds the old one or the new one, whole."""
    content = json.dumps(_File(keys=keys).model_dump(mode="json"), indent=2) + "\n"
    with draft_of(path, content) as draft:
        draft.replace(path)


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
