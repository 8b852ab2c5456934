"""Customers' storages: opens the backend of a target, which connects to allowed addresses only.

Each backend's library is imported on first use: the imports are slow, and each job has its own process.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from recording_farm.browser_bot.network.addresses import (
    AddressError,
    AddressRule,
    UnresolvedNameError,
    check_url,
)
from recording_farm.browser_bot.network.host_names import in_url
from recording_farm.farm.errors import AddressRefusedError, NameNotResolvedError
from recording_farm.farm.storage.backend import Checkpoint, CustomerBackend, Part, StorageError, StoredObject
from recording_farm.farm.storage.backends.allowed_addresses import only_allowed_addresses
from recording_farm.farm.storage.parts import Data, PartRules, PartsBackend, SentPart
from recording_farm.farm.storage.targets import (
    AwsTarget,
    AzureTarget,
    CloudflareTarget,
    DigitalOceanTarget,
    GcsTarget,
    KmsEncryption,
    S3Target,
    SftpTarget,
    Target,
    azure_connection,
    endpoint_of,
)

_ENCRYPTIONS: Final = {"SSE-S3": "AES256", "SSE-KMS": "aws:kms"}
"""S3's names of the kinds of encryption at rest (header x-amz-server-side-encryption)."""


class _Backend(CustomerBackend, PartsBackend, Protocol):
    """A backend of any customer's storage."""


class CustomerStorage:
    """A customer's storage: a `StorageBackend` whose errors are safe to show to the customer."""

    def __init__(self, backend: _Backend, rule: AddressRule | None) -> None:
        """Connect only where `rule` allows it; None allows everything."""
        self._backend = backend
        self._rule = rule

    @property
    def host_key(self) -> str | None:
        """The fingerprint of the host key that an SFTP server showed last; see `farm.storage.host_keys`."""
        host_key: str | None = getattr(self._backend, "host_key", None)
        return host_key

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> StoredObject:
        """See `StorageBackend`."""
        with _safe_errors(), only_allowed_addresses(self._rule):
            return self._backend.upload(source, key, checkpoint, content_type)

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:
        """See `StorageBackend`."""
        with _safe_errors(), only_allowed_addresses(self._rule):
            return self._backend.link(key, seconds, name, content_type)

    def delete(self, key: str) -> None:
        """See `StorageBackend`."""
        with _safe_errors(), only_allowed_addresses(self._rule):
            self._backend.delete(key)

    @property
    def part_rules(self) -> PartRules:
        """See `PartsBackend`. Whether the server takes parts is known when an upload begins."""
        return self._backend.part_rules

    def begin_parts(self, key: str, content_type: str) -> dict[str, Any]:
        """See `PartsBackend`."""
        with _safe_errors(), only_allowed_addresses(self._rule):
            return self._backend.begin_parts(key, content_type)

    def send_part(self, key: str, begun: dict[str, Any], part: Part, data: Data) -> dict[str, Any]:
        """See `PartsBackend`."""
        with _safe_errors(), only_allowed_addresses(self._rule):
            return self._backend.send_part(key, begun, part, data)

    def finish_parts(self, key: str, begun: dict[str, Any], sent: Sequence[SentPart]) -> StoredObject:
        """See `PartsBackend`."""
        with _safe_errors(), only_allowed_addresses(self._rule):
            return self._backend.finish_parts(key, begun, sent)

    def abort_parts(self, key: str, begun: dict[str, Any]) -> None:
        """See `PartsBackend`."""
        with _safe_errors(), only_allowed_addresses(self._rule):
            self._backend.abort_parts(key, begun)

    def check_writing(self, directory: str = "") -> list[str]:
        """See `CustomerBackend`. `directory` has no slash at either end."""
        with _safe_errors(), only_allowed_addresses(self._rule):
            return self._backend.check_writing(directory)


@contextmanager
def _safe_errors() -> Iterator[None]:
    """Turn every error into a StorageError without its cause, which may contain a signed URL."""
    try:
        yield
    except StorageError as error:
        raise StorageError(error.reason, error.message, lasting=error.lasting, final=error.final) from None
    except OSError:
        raise  # an error of this machine's disk
    except Exception as error:  # noqa: BLE001 - whatever it is
        # The libraries raise more kinds of errors than they document.
        text = f"unexpected error from the storage ({type(error).__name__})"
        raise StorageError("failed", text) from None


def open_backend(
    target: Target,
    rule: AddressRule | None,
    *,
    host_key: str | None = None,
    connect_timeout: float = 10,
    read_timeout: float = 60,
    tries: int = 3,
) -> CustomerStorage:
    """Open the backend of `target`; `farm.storage.targets.key_of` makes the keys of files.

    Does not connect yet. `rule` limits its addresses; None allows all. `host_key` is the expected fingerprint
    of an SFTP server, unless the target has one. The time-outs (s) apply to each of the `tries`. Raises
    StorageError for an invalid target, for example an unreadable private key.
    """
    with _safe_errors():
        return CustomerStorage(_backend(target, host_key, connect_timeout, read_timeout, tries), rule)


async def check_target_address(target: Target, rule: AddressRule, requester: object = None) -> None:
    """Raise AddressRefusedError when the address of `target` is forbidden by `rule`.

    Raises NameNotResolvedError when its name is not resolved in time, within the share of `requester`.

    This gives the customer early feedback. The security check is the one at each connection.
    """
    endpoint = _sftp_url(target) if isinstance(target, SftpTarget) else endpoint_of(target)
    if endpoint is None or rule.allow_all:
        return
    try:
        await check_url(endpoint, rule, requester=requester)
    except UnresolvedNameError as error:
        raise NameNotResolvedError(str(error)) from None
    except AddressError as error:
        raise AddressRefusedError(str(error)) from None


def _sftp_url(target: SftpTarget) -> str:
    # The rule takes http URLs; it uses only host and port.
    return f"http://{in_url(target.host)}:{target.port}/"


def _backend(
    target: Target, host_key: str | None, connect_timeout: float, read_timeout: float, tries: int
) -> _Backend:
    match target:
        case AwsTarget() | CloudflareTarget() | DigitalOceanTarget() | S3Target():
            from recording_farm.farm.storage.backends.s3 import S3Backend
            from recording_farm.farm.storage.backends.s3_client import S3Bucket

            return S3Backend(
                S3Bucket(
                    target.bucket,
                    target.access_key,
                    target.secret.get_secret_value(),
                    _s3_region(target),
                    endpoint_of(target),
                    _ENCRYPTIONS[target.encryption.type] if target.encryption else None,
                    target.encryption.kms_key_id if isinstance(target.encryption, KmsEncryption) else None,
                    tuple(target.metadata.items()),
                    urlencode(target.tags),
                    (target.session_token and target.session_token.get_secret_value()) or None,
                ),
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                tries=tries,
            )
        case AzureTarget():
            from recording_farm.farm.storage.backends.azure import AzureBackend, AzureContainer

            return AzureBackend(
                AzureContainer(target.bucket, azure_connection(target)),
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                tries=tries,
            )
        case GcsTarget():
            from recording_farm.farm.storage.backends.gcs import GcsBackend, GcsBucket

            return GcsBackend(
                GcsBucket(target.bucket, target.secret.get_secret_value()),
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
            )
        case SftpTarget():
            from recording_farm.farm.storage.backends.sftp import SftpBackend, SftpServer

            return SftpBackend(
                SftpServer(
                    target.host,
                    target.username,
                    target.port,
                    target.password.get_secret_value() if target.password else None,
                    target.private_key.get_secret_value()
                    if target.private_key and target.auth_method == "KEY"
                    else None,
                    # Keys have no leading slash, even if the target's path has one.
                    "/" if target.path.startswith("/") else "",
                    target.host_key or host_key,
                ),
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
            )


def _s3_region(target: AwsTarget | CloudflareTarget | DigitalOceanTarget | S3Target) -> str | None:
    match target:
        case CloudflareTarget():
            return "auto"  # R2's only region
        case AwsTarget() | DigitalOceanTarget():
            return target.region.lower()
        case _:
            return target.region or None
