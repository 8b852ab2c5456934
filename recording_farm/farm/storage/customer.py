"""Customers' storages: the place that a target describes, which connects only where the farm may.

Each kind's library is loaded with its first place: they take long, and each job is a process of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from recording_farm.browser_bot.network.addresses import AddressError, AddressRule, check_url
from recording_farm.browser_bot.network.host_names import in_url
from recording_farm.farm.errors import AddressRefusedError
from recording_farm.farm.storage.backend import Checkpoint, CustomersPlace, Placed, StorageError
from recording_farm.farm.storage.backends.allowed_addresses import only_allowed_addresses
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
"""What S3 calls the kinds of encryption at rest (its header x-amz-server-side-encryption)."""


class CustomerPlace:
    """A customer's storage. A `Place` whose errors hold nothing but what is meant for the customer."""

    def __init__(self, place: CustomersPlace, rule: AddressRule | None) -> None:
        """Connect only where `rule` allows it; None allows everything."""
        self._place = place
        self._rule = rule

    @property
    def host_key(self) -> str | None:
        """The fingerprint of the host key that an SFTP server showed last; see `farm.storage.host_keys`."""
        host_key: str | None = getattr(self._place, "host_key", None)
        return host_key

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> Placed:
        """See `Place`."""
        with self._kept():
            return self._place.upload(source, key, checkpoint, content_type)

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:
        """See `Place`."""
        with self._kept():
            return self._place.link(key, seconds, name, content_type)

    def delete(self, key: str) -> None:
        """See `Place`."""
        with self._kept():
            self._place.delete(key)

    def check_writing(self, directory: str = "") -> list[str]:
        """See `CustomersPlace`. `directory` has no slash at either end."""
        with self._kept():
            return self._place.check_writing(directory)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        with _said(), only_allowed_addresses(self._rule):
            yield


@contextmanager
def _said() -> Iterator[None]:
    """Whatever goes wrong is a StorageError, without what led to it, which may hold a signed URL."""
    try:
        yield
    except StorageError as error:
        raise StorageError(error.reason, error.message, lasting=error.lasting, final=error.final) from None
    except OSError:
        raise  # of this machine's own disk
    except Exception as error:  # noqa: BLE001 - whatever it is
        # The libraries refuse names and keys in more ways than they tell.
        text = f"unexpected error from the storage ({type(error).__name__})"
        raise StorageError("failed", text) from None


def place_of(
    target: Target,
    rule: AddressRule | None,
    *,
    host_key: str | None = None,
    connect_timeout: float = 10,
    read_timeout: float = 60,
    tries: int = 3,
) -> CustomerPlace:
    """The place that `target` describes; files' keys there come of `farm.storage.targets.key_of`.

    Nothing is sent yet. `rule` says where it may connect to; None is everywhere. `host_key` is what to expect
    of an SFTP server if the target names none. The time-outs (s) are those of one of so many `tries`. Raises
    StorageError when there can be no such place: a key cannot be read, say.
    """
    with _said():
        return CustomerPlace(_place(target, host_key, connect_timeout, read_timeout, tries), rule)


async def check_target_address(target: Target, rule: AddressRule) -> None:
    """Raises AddressRefusedError when `target` lies at an address that `rule` forbids.

    That is for the customer, who learns of it at once. What counts is the look at each connection.
    """
    endpoint = _sftp_url(target) if isinstance(target, SftpTarget) else endpoint_of(target)
    if endpoint is None or rule.allow_all:
        return
    try:
        await check_url(endpoint, rule)
    except AddressError as error:
        raise AddressRefusedError(str(error)) from None


def _sftp_url(target: SftpTarget) -> str:
    # A URL of a kind that the rule reads; only host and port count.
    return f"http://{in_url(target.host)}:{target.port}/"


def _place(
    target: Target, host_key: str | None, connect_timeout: float, read_timeout: float, tries: int
) -> CustomersPlace:
    match target:
        case AwsTarget() | CloudflareTarget() | DigitalOceanTarget() | S3Target():
            from recording_farm.farm.storage.backends.s3 import S3Bucket, S3Place

            return S3Place(
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
            from recording_farm.farm.storage.backends.azure import AzureContainer, AzurePlace

            return AzurePlace(
                AzureContainer(target.bucket, azure_connection(target)),
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                tries=tries,
            )
        case GcsTarget():
            from recording_farm.farm.storage.backends.gcs import GcsBucket, GcsPlace

            return GcsPlace(
                GcsBucket(target.bucket, target.secret.get_secret_value()),
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
            )
        case SftpTarget():
            from recording_farm.farm.storage.backends.sftp import SftpPlace, SftpServer

            return SftpPlace(
                SftpServer(
                    target.host,
                    target.username,
                    target.port,
                    target.password.get_secret_value() if target.password else None,
                    target.private_key.get_secret_value()
                    if target.private_key and target.auth_method == "KEY"
                    else None,
                    # A file's key has no slash in front, even if the target's path has.
                    "/" if target.path.startswith("/") else "",
                    target.host_key or host_key,
                ),
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
            )


def _s3_region(target: AwsTarget | CloudflareTarget | DigitalOceanTarget | S3Target) -> str | None:
    match target:
        case CloudflareTarget():
            return "auto"  # R2 has no regions, and this is the name of all of them
        case AwsTarget() | DigitalOceanTarget():
            return target.region.lower()
        case _:
            return target.region or None
