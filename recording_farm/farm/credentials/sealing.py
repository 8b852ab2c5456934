"""Sealing: customers' secrets are kept encrypted, and can be read by the farm's own processes alone.

AES-256-GCM under a key that is derived (HKDF-SHA256) from the farm's secret: FARM_SECRET_KEY, or the file in
the data directory. What is sealed for one recording cannot be passed off as another's: its context is
authenticated.
"""

import base64
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from recording_farm.farm.errors import SettingsError

_NONCE_BYTES: Final = 12
_PURPOSE: Final = b"recording-farm sealing 1"


class Sealer:
    """Seals and opens texts with one secret."""

    def __init__(self, secret: bytes) -> None:
        """`secret` comes from `farm.credentials.farm_secret.load_secret_key`."""
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret)
        self._cipher = AESGCM(key)

    def seal(self, text: str, context: str) -> str:
        """The text, encrypted; `context` says what it belongs to and must be the same at `open`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), context.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, context: str) -> str:
        """The text again.

        Raises SettingsError when it was sealed with another secret or for something else.
        """
        try:
            data = base64.b64decode(sealed, validate=True)
            plain = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise SettingsError(
                f"what is kept of {context} was sealed with another secret; all processes of a farm need the "
                "same FARM_SECRET_KEY or data directory"
            ) from None
        return plain.decode()
