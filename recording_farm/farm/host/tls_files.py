"""FARM_TLS_CERTIFICATE and FARM_TLS_KEY: the API's certificate and key, loaded again when the files change.

A program such as certbot replaces the files one after the other, so for a moment they do not belong together,
and a copy may be written while it is read. Such a pair is not used: the one before it stays in use.
"""

import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from recording_farm.farm.errors import FarmError, SettingsError
from recording_farm.farm.notice import NOTICE

logger = logging.getLogger(__name__)

CHECK_SECONDS: Final = 2.0
"""Interval at which the files are compared with what is loaded."""

_MAX_BYTES: Final = 1 << 20


class TlsFiles:
    """A certificate and its key; `context` is the TLS of the last pair that could be loaded."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Load the files. Raises SettingsError that says which one is wrong, and why."""
        self._certificate = certificate
        self._key = key
        self._seen = self._read()
        self.context = self._load(self._seen)

    @property
    def valid_until(self) -> datetime:
        """When the certificate that was loaded expires."""
        return _end_of(self._seen[0])

    def reload(self) -> None:
        """Load the files again if they have changed; a pair that cannot be used is logged, once."""
        try:
            content = self._read()
        except SettingsError as error:
            self._reject(str(error), (b"", b""))
            return
        if content == self._seen:
            return
        try:
            self.context = self._load(content)
        except SettingsError as error:
            self._reject(str(error), content)
        else:
            self._seen = content
            logger.log(NOTICE, "TLS: loaded the new certificate, valid until %s", _end_of(content[0]).date())

    def _reject(self, problem: str, content: tuple[bytes, bytes]) -> None:
        if content != self._seen:
            self._seen = content
            logger.error("TLS: the certificate before stays in use; %s", problem)

    def _read(self) -> tuple[bytes, bytes]:
        return (
            _content(self._certificate, "FARM_TLS_CERTIFICATE"),
            _content(self._key, "FARM_TLS_KEY"),
        )

    def _load(self, content: tuple[bytes, bytes]) -> ssl.SSLContext:
        _check_certificate(self._certificate, content[0])
        if b"PRIVATE KEY-----" not in content[1]:
            raise SettingsError(f"FARM_TLS_KEY: {self._key} has no private key as PEM")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, _refuse_passphrase)
        except (ssl.SSLError, OSError, _PassphraseError) as error:
            raise SettingsError(self._problem(error)) from None
        if self._read() != content:
            raise SettingsError("FARM_TLS_CERTIFICATE: the files change at this moment")
        return context

    def _problem(self, error: Exception) -> str:
        if isinstance(error, _PassphraseError):
            return f"FARM_TLS_KEY: {self._key} has a passphrase; give a key without one"
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            return f"FARM_TLS_KEY: {self._key} is not the key of {self._certificate}"
        reason = getattr(error, "reason", None) or error
        return f"FARM_TLS_KEY: {self._key} cannot be used with {self._certificate}: {reason}"


def open_tls_files(certificate: Path | None, key: Path | None) -> TlsFiles | None:
    """Load the files of the settings; None without them. Raises SettingsError as TlsFiles does."""
    return TlsFiles(certificate, key) if certificate is not None and key is not None else None


class _PassphraseError(FarmError):
    """A key needs a passphrase."""


def _refuse_passphrase() -> str:
    raise _PassphraseError("the key needs a passphrase")


def _content(file: Path, setting: str) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{setting}: {file} cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise SettingsError(f"{setting}: {file} has more than {_MAX_BYTES >> 20} MiB")
    return content


def _check_certificate(file: Path, content: bytes) -> None:
    from cryptography import x509  # a slow import

    try:
        first, *_ = x509.load_pem_x509_certificates(content)
    except ValueError:
        raise SettingsError(f"FARM_TLS_CERTIFICATE: {file} has no certificate as PEM") from None
    now = datetime.now(UTC)
    if first.not_valid_after_utc < now:
        ended = f"{first.not_valid_after_utc:%Y-%m-%d}"
        raise SettingsError(
            f"FARM_TLS_CERTIFICATE: the certificate in {file} has expired on {ended}; renew it"
        )
    if first.not_valid_before_utc > now:
        begins = f"{first.not_valid_before_utc:%Y-%m-%d %H:%M}"
        raise SettingsError(
            f"FARM_TLS_CERTIFICATE: {file} is not valid before {begins} UTC; is this machine's clock right?"
        )


def _end_of(content: bytes) -> datetime:
    from cryptography import x509

    return x509.load_pem_x509_certificates(content)[0].not_valid_after_utc
