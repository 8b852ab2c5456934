"""The storages that the benchmark `finish` uploads to: real servers on this machine."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path
from typing import Any, Final

import httpx
from azure.storage.blob import BlobServiceClient

from testkit.storage.azure_account import connection_string
from testkit.storage.buckets import s3_at
from testkit.storage.emulated_gcs import words_of
from testkit.storage.servers import S3_KEY, S3_SECRET, azurite, gcs_server, s3_server, sshd

BUCKET: Final = "films"


def _nothing(key: str) -> bytes:
    raise AssertionError(f"{key} is in no customer's storage")


@dataclass(frozen=True)
class Place:
    """A running storage: the farm's settings and the `storage_config` with which recordings go there."""

    settings: Mapping[str, str] = field(default_factory=dict)
    target: Mapping[str, Any] | None = None
    within: tuple[str, ...] = ()
    """The words of a program that the worker is run by."""
    read: Callable[[str], bytes] = _nothing
    """The content of a file there."""


@contextmanager
def _directory(directory: Path) -> Iterator[Place]:  # noqa: ARG001 - as all places
    yield Place()


@contextmanager
def _encrypted(directory: Path) -> Iterator[Place]:  # noqa: ARG001
    yield Place({"FARM_STORE_ENCRYPTION": "on"})


@contextmanager
def _s3_store(directory: Path) -> Iterator[Place]:
    with _bucket(directory) as endpoint:
        yield Place(
            {
                "FARM_STORE_URL": f"s3://{BUCKET}?endpoint={endpoint}",
                "FARM_STORE_ACCESS_KEY": S3_KEY,
                "FARM_STORE_SECRET": S3_SECRET,
            }
        )


@contextmanager
def _s3_customer(directory: Path) -> Iterator[Place]:
    with _bucket(directory) as endpoint:
        target = {"type": "s3", "bucket": BUCKET, "access_key": S3_KEY, "secret": S3_SECRET}
        bucket = s3_at(endpoint).Bucket(BUCKET)
        yield Place(
            target=target | {"endpoint": endpoint},
            read=lambda key: bucket.Object(key).get()["Body"].read(),
        )


@contextmanager
def _azure_store(directory: Path) -> Iterator[Place]:
    with _container(directory) as connection:
        yield Place({"FARM_STORE_URL": f"azure://{BUCKET}", "FARM_STORE_SECRET": connection})


@contextmanager
def _azure_customer(directory: Path) -> Iterator[Place]:
    with _container(directory) as connection:
        target = {"type": "azure", "access_key": connection, "bucket": BUCKET}
        with BlobServiceClient.from_connection_string(connection) as service:
            yield Place(
                target=target,
                read=lambda key: service.get_blob_client(BUCKET, key).download_blob().readall(),
            )


@contextmanager
def _gcs_customer(directory: Path) -> Iterator[Place]:
    with gcs_server(directory) as port:
        endpoint = f"http://127.0.0.1:{port}"
        httpx.post(f"{endpoint}/storage/v1/b", json={"name": BUCKET}).raise_for_status()
        # The emulator lets every token in.
        yield Place(
            target={"type": "gcs", "secret": "ya29.x", "bucket": BUCKET},
            within=words_of(endpoint),
            read=lambda key: httpx.get(f"{endpoint}/{BUCKET}/{key}", timeout=60).raise_for_status().content,
        )


@contextmanager
def _sftp_customer(directory: Path) -> Iterator[Place]:
    with sshd(directory) as server:
        target = {"type": "sftp", "host": "127.0.0.1", "port": server.port, "auth_method": "KEY"}
        films = directory / "films"
        login = {"username": getuser(), "private_key": server.key, "path": str(films)}
        yield Place(target=target | login, read=lambda key: (films / key).read_bytes())


@contextmanager
def _bucket(directory: Path) -> Iterator[str]:
    with s3_server(directory) as endpoint:
        s3_at(endpoint).Bucket(BUCKET).create()
        yield endpoint


@contextmanager
def _container(directory: Path) -> Iterator[str]:
    with azurite(directory) as port:
        connection = connection_string(port)
        with BlobServiceClient.from_connection_string(connection) as service:
            service.create_container(BUCKET)
        yield connection


PLACES: Final[Mapping[str, Callable[[Path], AbstractContextManager[Place]]]] = {
    "directory": _directory,
    "encrypted directory": _encrypted,
    "S3": _s3_store,
    "Azurite": _azure_store,
    "S3, a customer's": _s3_customer,
    "Azurite, a customer's": _azure_customer,
    "GCS emulator, a customer's": _gcs_customer,
    "sshd, a customer's": _sftp_customer,
}
"""Stores of the farm; and storages of a customer, besides a store in a directory."""
