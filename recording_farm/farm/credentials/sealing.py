"""Sealing: encryption of customers' secrets in Redis.

AES-256-GCM with a key derived (HKDF-SHA256) from the farm's secret key. The context, such as the recording,
is authenticated, so a sealed secret cannot be moved to another recording.
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
    """Encrypts and decrypts texts with one secret."""

    def __init__(self, secret: bytes) -> None:
        """`secret` comes from `farm.credentials.farm_secret.load_secret_key`."""
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret)
        self._cipher = AESGCM(key)

    def seal(self, text: str, context: str) -> str:
        """Encrypt a text; `open` needs the same `context`, which identifies its owner."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), context.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, context: str) -> str:
        """Decrypt a text.

        Raises SettingsError when it was sealed with another secret or context.
        """
        try:
            data = base64.b64decode(sealed, validate=True)
            plain = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise SettingsError(
                f"the secrets of {context} were encrypted with another key; all processes of a farm need the "
                "same FARM_SECRET_KEY or data directory"
            ) from None
        return plain.decode()
