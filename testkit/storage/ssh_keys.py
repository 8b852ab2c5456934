"""Keys made for a test."""

import io

import paramiko
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

PrivateKey = Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey


def ed25519_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def private_text(
    key: PrivateKey, passphrase: str | None = None, form: PrivateFormat = PrivateFormat.OpenSSH
) -> str:
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption).decode()


def public_text(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"


def fingerprint(key: Ed25519PrivateKey) -> str:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(private_text(key))).fingerprint
