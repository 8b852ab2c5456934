"""The signatures of a delivery, which prove that it comes from this farm.

Each delivery has two kinds: that of the recording API, RSA over the raw body with the farm's key, under the
names of both dialects; and that of Standard Webhooks, an HMAC with the webhook's own secret.
"""

import base64
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from standardwebhooks import Webhook as StandardWebhook

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.secret_files import read_or_make
from recording_farm.farm.errors import SettingsError

_KEY_FILE: Final = "webhook-key.pem"
_KEY_BITS: Final = 2048

_FAMILIES: Final = ("dyte", "rtk")
"""The prefixes of the recording API's headers in its two dialects."""


class SigningKey:
    """The farm's RSA key."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        """`key` signs every delivery of the farm."""
        self._key = key

    @property
    def public_pem(self) -> str:
        """The public key, as PEM."""
        public = self._key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, body: bytes) -> str:
        """RSASSA-PKCS1-v1_5 with SHA-256 over `body`, in base64."""
        return base64.b64encode(self._key.sign(body, PKCS1v15(), hashes.SHA256())).decode()


def load_signing_key(settings: Settings) -> SigningKey:
    """The key of the settings, or that of the data directory, which is made at the first use.

    Raises SettingsError when its file cannot be read, or has no RSA key of 2048 bits or more.
    """
    if settings.webhook_key is None:
        path, variable = settings.data_dir / _KEY_FILE, "FARM_DATA_DIR"
        content = read_or_make(path, _new_key)
    else:
        path, variable = settings.webhook_key, "FARM_WEBHOOK_KEY"
        try:
            content = path.read_text()
        except (OSError, UnicodeError) as error:
            raise SettingsError(f"{variable}: {path} cannot be read: {error}") from None
    try:
        key = _private_key(content.encode())
    except (ValueError, TypeError):
        # The error's text could quote the file.
        raise SettingsError(f"{variable}: {path} is not a PEM file with an unencrypted private key") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _KEY_BITS:
        raise SettingsError(f"{variable}: {path} must hold an RSA key of {_KEY_BITS} bits or more")
    return SigningKey(key)


@lru_cache(maxsize=1)
def _private_key(pem: bytes) -> PrivateKeyTypes:
    """The key of a PEM file. Its validation takes 30 ms, so a process validates the same file once."""
    return load_pem_private_key(pem, password=None)


def _new_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def signature_headers(
    key: SigningKey, secret: str, *, webhook_id: str, delivery_id: str, body: str, present: datetime
) -> dict[str, str]:
    """The headers that sign a delivery, sent at `present`; `secret` is the webhook's own."""
    signature = key.sign(body.encode())
    headers = {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(present.timestamp())),
        "webhook-signature": StandardWebhook(secret).sign(delivery_id, present, body),
    }
    for family in _FAMILIES:
        headers[f"{family}-signature"] = signature
        headers[f"{family}-uuid"] = delivery_id
        headers[f"{family}-webhook-id"] = webhook_id
    return headers
