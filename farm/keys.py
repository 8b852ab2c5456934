"""API keys, and the secret that signs download links.

Both come from the settings, or are made on the first start and kept in the data directory, readable by the
farm's user alone. Of API keys only the hash is kept: a key that was lost cannot be read back, only replaced.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from farm.errors import SettingsError
from farm.settings import Settings

_KEYS_FILE: Final = "api-keys.json"
_SECRET_FILE: Final = "secret-key"  # noqa: S105 - the name of the file, not the secret
_DEFAULT_ORGANIZATION: Final = "default"


class ApiKeys:
    """The API keys of all organisations, as hashes."""

    def __init__(self, hashes: Mapping[str, tuple[str, ...]]) -> None:
        """`hashes` are the SHA-256 of each organisation's keys, in hexadecimal."""
        self._hashes = hashes

    def authenticate(self, organization_id: str, key: str) -> bool:
        """Whether `key` is one of the organisation's keys.

        The time it takes tells nothing about the keys.
        """
        given = _hash(key)
        known = self._hashes.get(organization_id, ())
        # All of them before `any` looks at the first: the time must not tell which one fits.
        fits = [hmac.compare_digest(given, one) for one in known]
        return any(fits)


class LoadedKeys(NamedTuple):
    """The API keys, and the credentials (`organisation:key`) made just now, to be shown once, or None."""

    keys: ApiKeys
    made: str | None


def load_api_keys(settings: Settings) -> LoadedKeys:
    """The keys of the settings; without any, those in the data directory, made on the first start.

    Raises SettingsError when the file in the data directory cannot be read or written.
    """
    if settings.api_keys:
        return LoadedKeys(ApiKeys(_hashes_of_settings(settings)), None)
    path = settings.data_dir / _KEYS_FILE
    key = secrets.token_urlsafe(24)
    content, made = _read_or_make(path, json.dumps({_DEFAULT_ORGANIZATION: [_hash(key)]}, indent=2) + "\n")
    return LoadedKeys(ApiKeys(_parse(path, content)), f"{_DEFAULT_ORGANIZATION}:{key}" if made else None)


def load_secret_key(settings: Settings) -> bytes:
    """The secret that signs links: the one of the settings, or a random one kept in the data directory.

    Raises SettingsError when the file in the data directory cannot be read or written.
    """
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    content, _ = _read_or_make(settings.data_dir / _SECRET_FILE, secrets.token_hex(32))
    return content.strip().encode()


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _hashes_of_settings(settings: Settings) -> dict[str, tuple[str, ...]]:
    hashes: dict[str, tuple[str, ...]] = {}
    for organization_id, key in settings.api_keys:
        hashes[organization_id] = (*hashes.get(organization_id, ()), _hash(key.get_secret_value()))
    return hashes


def _parse(path: Path, content: str) -> dict[str, tuple[str, ...]]:
    try:
        return {
            str(organization): tuple(map(str, keys)) for organization, keys in json.loads(content).items()
        }
    except (ValueError, AttributeError, TypeError):
        raise SettingsError(f"{path} is damaged; delete it to get a new API key at the next start") from None


def _read_or_make(path: Path, content: str) -> tuple[str, bool]:
    """What the file holds, and whether it was made just now, holding `content`.

    Of several processes starting at once one makes it, and no other ever reads half of it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return path.read_text(), False
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return path.read_text(), False
        finally:
            draft.unlink()
    except OSError as error:
        raise SettingsError(f"FARM_DATA_DIR: {path} cannot be read or made: {error.strerror}") from error
    return content, True
