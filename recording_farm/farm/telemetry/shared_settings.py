"""Settings that must be the same on all machines of a farm, compared by fingerprints in Redis.

Keys
    farm:fingerprints       hash: of each process by its name, its fingerprints and the time, as JSON
    farm:fingerprints:salt  string: the random key of the fingerprints

A fingerprint is a keyed hash, of the secret a slow one (scrypt), so Redis does not reveal the value. Two
processes with different fingerprints of a variable have different values. Neither is known to be the wrong
one, so both report it.
"""

import hashlib
import hmac
import json
import logging
import secrets
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, cast

import redis
from pydantic import AwareDatetime, BaseModel

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.storage.identity import store_identity

logger = logging.getLogger(__name__)

PUBLISH_SECONDS: Final = 10.0
"""Between two times that a process publishes its fingerprints."""

_FRESH: Final = timedelta(seconds=60)
"""How old the fingerprints of a running process may be, by the clock of the reader."""

_FORGOTTEN: Final = timedelta(hours=1)
"""After which the fingerprints of a process that was killed are removed."""

_FINGERPRINTS_KEY: Final = "farm:fingerprints"
_SALT_KEY: Final = "farm:fingerprints:salt"

STORE: Final = "FARM_STORE_URL"
ENCRYPTION: Final = "FARM_STORE_ENCRYPTION"
SECRET: Final = "FARM_SECRET_KEY"  # noqa: S105 - the name of the variable
WEBHOOK_KEY: Final = "FARM_WEBHOOK_KEY"

SHARED: Final = (STORE, ENCRYPTION, SECRET, WEBHOOK_KEY)
"""The variables that are compared."""

_ADVICE: Final = {STORE: "a file:// store must be a directory that all machines share"}


class _Process(BaseModel):
    """What a process publishes."""

    time: AwareDatetime
    fingerprints: dict[str, str]


def shared_values(settings: Settings, webhook_public_key: str) -> dict[str, str]:
    """The values to compare, by variable; without the store when its directory cannot be used.

    Raises SettingsError when the secret cannot be read.
    """
    values = {
        ENCRYPTION: str(settings.store_encryption),
        SECRET: load_secret_key(settings).decode(),
        WEBHOOK_KEY: webhook_public_key,
    }
    try:
        values[STORE] = store_identity(settings.store_location)
    except OSError as error:
        logger.debug("the store is not compared with that of other machines: %s", error)
    return values


class SharedSettings:
    """The shared settings of one process, and their fingerprints in Redis."""

    def __init__(self, client: redis.Redis, name: str, values: Mapping[str, str]) -> None:
        """`client` must return bytes; `name` is the same when the process starts again."""
        self._redis = client
        self._name = name
        self._values = values
        self._salt = b""
        self._fingerprints: dict[str, str] = {}
        self._reported: dict[str, list[str]] = {}

    def publish(self) -> dict[str, list[str]]:
        """Publish, compare, and log what has changed.

        Returns the variables that differ, each with the names of the processes that have another value.
        Raises redis.RedisError.
        """
        self._redis.set(_SALT_KEY, secrets.token_bytes(16), nx=True)
        salt = cast("bytes", self._redis.get(_SALT_KEY))
        if salt != self._salt:
            self._salt = salt
            self._fingerprints = {
                name: _fingerprint(name, value, salt) for name, value in self._values.items()
            }
        present = _Process(time=now(), fingerprints=self._fingerprints)
        self._redis.hset(_FINGERPRINTS_KEY, self._name, present.model_dump_json())
        processes = _processes(self._redis)
        if old := [name for name, process in processes.items() if _age(process) > _FORGOTTEN]:
            self._redis.hdel(_FINGERPRINTS_KEY, *old)
        others = {name: found for name, found in _running(processes).items() if name != self._name}
        differing = _differing(self._fingerprints, others)
        self._report(differing)
        return differing

    def withdraw(self) -> None:
        """Remove what this process has published. Raises redis.RedisError."""
        self._redis.hdel(_FINGERPRINTS_KEY, self._name)

    def _report(self, differing: dict[str, list[str]]) -> None:
        for variable, names in differing.items():
            if names != self._reported.get(variable):
                advice = _ADVICE.get(variable, "set the same value on all machines")
                logger.error("%s differs from that of %s: %s", variable, ", ".join(names), advice)
        for variable in self._reported.keys() - differing.keys():
            logger.warning("%s is the same on all machines again", variable)
        self._reported = differing


def differing_settings(client: redis.Redis) -> list[str]:
    """The variables of which running processes have different values. Raises redis.RedisError."""
    values = defaultdict[str, set[str]](set)
    for process in _running(_processes(client)).values():
        for variable, fingerprint in process.fingerprints.items():
            values[variable].add(fingerprint)
    return [variable for variable in SHARED if len(values[variable]) > 1]


def _differing(own: Mapping[str, str], others: Mapping[str, _Process]) -> dict[str, list[str]]:
    found = {
        variable: sorted(
            name
            for name, process in others.items()
            if process.fingerprints.get(variable, fingerprint) != fingerprint
        )
        for variable, fingerprint in own.items()
    }
    return {variable: names for variable, names in found.items() if names}


def _processes(client: redis.Redis) -> dict[str, _Process]:
    """What all processes have published, also those that were killed since."""
    found = cast("dict[bytes, bytes]", client.hgetall(_FINGERPRINTS_KEY))
    return {name.decode(): _Process.model_validate_json(text) for name, text in found.items()}


def _running(processes: Mapping[str, _Process]) -> dict[str, _Process]:
    return {name: process for name, process in processes.items() if _age(process) < _FRESH}


def _age(process: _Process) -> timedelta:
    return abs(now() - process.time)


def _fingerprint(variable: str, value: str, salt: bytes) -> str:
    """Of the secret by scrypt: a short one could be guessed from a fast hash."""
    text = json.dumps([variable, value]).encode()
    if variable == SECRET:
        return hashlib.scrypt(text, salt=salt, n=1 << 13, r=8, p=1, dklen=16).hex()
    return hmac.digest(salt, text, "sha256")[:16].hex()
