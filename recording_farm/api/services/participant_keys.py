"""The public keys that verify participants' tokens: a JSON Web Key Set (RFC 7517), fetched and cached.

The set is fetched when it is first needed, again when it is old, and when a token names a key that it does
not have: so new keys are valid at once, and removed ones until the next fetch. While the URL does not answer,
the known keys stay valid for a day.
"""

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from recording_farm.farm.errors import KeysUnavailableError

logger = logging.getLogger(__name__)

_FETCH_SECONDS: Final = 5.0
"""Time-out of a whole fetch."""

_MAX_BYTES: Final = 256 << 10
_MAX_KEYS: Final = 50
"""Keys beyond this number are ignored: no issuer has more than a few."""

_FRESH_SECONDS: Final = 600.0
"""How long a set counts as current."""

_FETCH_INTERVAL: Final = 10.0
"""Minimum seconds between two fetches: strangers can cause one with a made-up key id."""

_MAX_SECONDS: Final = 86_400.0
"""TTL of the keys after the last successful fetch."""

_MIN_RSA: Final = 2048
"""Bits that RFC 7518, 3.3 requires."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey


class _Key(NamedTuple):
    id: str | None
    algorithm: str
    key: PublicKey


class ParticipantKeys:
    """The keys at one address. Used in one event loop."""

    def __init__(self, url: str) -> None:
        """Nothing is fetched yet."""
        self._url = url
        self._keys: Sequence[_Key] = ()
        self._fetched = -_MAX_SECONDS
        self._next_try = 0.0
        self._lock = asyncio.Lock()

    async def find(self, key_id: str | None, algorithm: str) -> Sequence[PublicKey]:
        """The keys for a token's algorithm (RS256, ES256) and, if it names one, key id.

        Raises KeysUnavailableError when no keys are known and none can be fetched.
        """
        if time.monotonic() - self._fetched >= _FRESH_SECONDS or not self._matching(key_id, algorithm):
            await self._refresh()
        if time.monotonic() - self._fetched >= _MAX_SECONDS:
            raise KeysUnavailableError(
                "cannot check the token: FARM_PARTICIPANT_JWKS_URL does not answer; try again later",
                retry_after=round(_FETCH_INTERVAL),
            )
        return self._matching(key_id, algorithm)

    def _matching(self, key_id: str | None, algorithm: str) -> Sequence[PublicKey]:
        return [
            key.key
            for key in self._keys
            if key.algorithm == algorithm and (key_id is None or key.id in (None, key_id))
        ]

    async def _refresh(self) -> None:
        """Fetch the set, unless the last attempt was a moment ago; a failure keeps the known keys."""
        async with self._lock:
            if time.monotonic() < self._next_try:
                return
            try:
                self._keys = read_key_set(await _fetch(self._url))
                self._fetched = time.monotonic()
            except (httpx.HTTPError, OSError, TimeoutError, ValueError) as error:
                logger.warning("FARM_PARTICIPANT_JWKS_URL: the keys cannot be fetched: %r", error)
            self._next_try = time.monotonic() + _FETCH_INTERVAL


def read_key_set(text: bytes) -> Sequence[_Key]:
    """The keys of a set that can verify tokens here: RSA for RS256, P-256 for ES256.

    Others are ignored, as RFC 7517, 5 requires: an issuer may have keys for other uses. Raises ValueError
    when the text is not a key set.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("the key set is nested too deeply") from None
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError('the answer is not a key set: it has no list "keys"')
    read = (_read_key(entry) for entry in entries[:_MAX_KEYS] if isinstance(entry, dict))
    return [key for key in read if key is not None]


def _read_key(entry: dict[str, Any]) -> _Key | None:
    algorithm = _algorithm(entry)
    operations = entry.get("key_ops", ["verify"])
    if (
        algorithm is None
        or entry.get("alg", algorithm) != algorithm
        or entry.get("use", "sig") != "sig"
        or not isinstance(operations, list)
        or "verify" not in operations
        or "d" in entry
    ):
        return None
    try:
        key = PyJWK(entry, algorithm).key
    except (PyJWTError, ValueError, TypeError, AttributeError) as error:
        logger.warning("FARM_PARTICIPANT_JWKS_URL: a key cannot be read: %s", type(error).__name__)
        return None
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA:
        return None
    key_id = entry.get("kid")
    return _Key(key_id if isinstance(key_id, str) else None, algorithm, key)


def _algorithm(entry: dict[str, Any]) -> str | None:
    match entry:
        case {"kty": "RSA"}:
            return "RS256"
        case {"kty": "EC", "crv": "P-256"}:
            return "ES256"
        case _:
            return None


async def _fetch(url: str) -> bytes:
    """Raises httpx.HTTPError, OSError, TimeoutError, ValueError."""
    async with (
        asyncio.timeout(_FETCH_SECONDS),
        httpx.AsyncClient(
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=_FETCH_SECONDS,
        ) as client,
        client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise ValueError(f"the answer is {response.status_code}")
        content = bytearray()
        # Raw, so that no compressed response exceeds the limit.
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > _MAX_BYTES:
                raise ValueError(f"the answer has more than {_MAX_BYTES} bytes")
        return bytes(content)
