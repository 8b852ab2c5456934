"""The API keys in Redis, which all API processes of a farm share.

Keys
    farm:api_keys          hash: each key by its id, as JSON; of the key itself only its SHA-256
    farm:api_keys:revoked  set: ids of revoked keys
    farm:api_keys:version  a random text, new after each change

Revocations are permanent and take precedence, so the order of writes does not matter: a process that does not
know of a revocation may add the key again, and it stays invalid.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

import redis

_KEYS: Final = "farm:api_keys"
_REVOKED: Final = "farm:api_keys:revoked"
VERSION_KEY: Final = "farm:api_keys:version"


_READ: Final = """
return {redis.call('HGETALL', KEYS[1]), redis.call('SMEMBERS', KEYS[2]), redis.call('GET', KEYS[3])}
"""
"""KEYS keys, revoked, version. Not a transaction: a full Redis rejects even reads in one."""


class Shared(NamedTuple):
    """The content of Redis: JSON by key id, the ids of revoked keys, and the version of both."""

    keys: Mapping[str, bytes]
    revoked: frozenset[str]
    version: bytes | None


def read_shared(client: redis.Redis) -> Shared:
    """Read everything. Raises redis.RedisError."""
    flat, revoked, version = client.register_script(_READ)(keys=[_KEYS, _REVOKED, VERSION_KEY])
    keys = dict(zip(flat[::2], flat[1::2], strict=True))
    return Shared(
        {key_id.decode(): text for key_id, text in keys.items()},
        frozenset(key_id.decode() for key_id in revoked),
        version,
    )


def write_shared(client: redis.Redis, keys: Mapping[str, str], revoked: Iterable[str]) -> bytes:
    """Add keys and revoke keys; returns the new version. Raises redis.RedisError."""
    version, ended = _new_version(), list(revoked)
    with client.pipeline() as pipe:
        if keys:
            pipe.hset(_KEYS, mapping=cast("Any", keys))
        if ended:
            pipe.sadd(_REVOKED, *ended)
            pipe.hdel(_KEYS, *ended)
        pipe.set(VERSION_KEY, version)
        pipe.execute()
    return version


def begin_shared(client: redis.Redis) -> bool:
    """Initialize the version; true for exactly one of several processes. Raises redis.RedisError."""
    return cast("bool | None", client.set(VERSION_KEY, _new_version(), nx=True)) is True


def _new_version() -> bytes:
    return secrets.token_hex(8).encode()
