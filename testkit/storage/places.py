"""Running storages of each kind, for farms that run: settings with which one is the farm's store, the
`storage_config` with which recordings go there, what is in it, and what is unfinished.
"""

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

STORE: Final = "store"
"""The bucket, container or directory of the farm's store."""

FILMS: Final = "films"
"""That of a customer."""

_KEPT: Final = frozenset({".recording-farm-store"})
"""The file by which machines know a store in a directory."""


@dataclass(frozen=True)
class Place:
    """A running storage. The functions read what is in `STORE` or `FILMS`, by a client of their own."""

    read: Callable[[str, str], bytes]
    """The content of a file."""
    unfinished: Callable[[str], list[str]]
    """What nobody may leave there: uploads, blocks, drafts and copies of spools, in words."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """FARM_ settings that make it the farm's store; empty if it cannot be one."""
    target: Mapping[str, Any] | None = None
    """A `storage_config`; None if it is for no customer."""
    within: tuple[str, ...] = field(default=())
    """The words of a program that runs the farm, for storages whose endpoint has no setting."""


Opened = Callable[[Path], AbstractContextManager[Place]]


@contextmanager
def directory_place(directory: Path) -> Iterator[Place]:
    """A directory that all nodes share."""
    (directory / STORE).mkdir()

    def unfinished(where: str) -> list[str]:
        return _unfinished(_files(directory / where))

    yield Place(
        lambda where, key: (directory / where / key).read_bytes(),
        unfinished,
        settings={"FARM_STORE_URL": f"file://{directory / STORE}"},
    )


@contextmanager
def s3_place(directory: Path) -> Iterator[Place]:
    """An S3 server."""
    with s3_server(directory) as endpoint:
        s3 = s3_at(endpoint)
        for bucket in (STORE, FILMS):
            s3.Bucket(bucket).create()

        def unfinished(where: str) -> list[str]:
            bucket = s3.Bucket(where)
            uploads = [f"upload of {each.object_key}" for each in bucket.multipart_uploads.all()]
            return uploads + _unfinished([each.key for each in bucket.objects.all()])

        login = {"access_key": S3_KEY, "secret": S3_SECRET}
        yield Place(
            lambda where, key: s3.Object(where, key).get()["Body"].read(),
            unfinished,
            settings={
                "FARM_STORE_URL": f"s3://{STORE}?endpoint={endpoint}",
                "FARM_STORE_ACCESS_KEY": S3_KEY,
                "FARM_STORE_SECRET": S3_SECRET,
            },
            target={"type": "s3", "bucket": FILMS, "endpoint": endpoint, **login},
        )


@contextmanager
def azure_place(directory: Path) -> Iterator[Place]:
    """Azurite."""
    with azurite(directory) as port:
        connection = connection_string(port)
        with BlobServiceClient.from_connection_string(connection) as service:
            for container in (STORE, FILMS):
                service.create_container(container)

            def unfinished(where: str) -> list[str]:
                container = service.get_container_client(where)
                blobs = {blob.name for blob in container.list_blobs()}
                with_blocks = {blob.name for blob in container.list_blobs(include=["uncommittedblobs"])}
                return [f"blocks of {name}" for name in with_blocks - blobs] + _unfinished(sorted(blobs))

            yield Place(
                lambda where, key: service.get_blob_client(where, key).download_blob().readall(),
                unfinished,
                settings={"FARM_STORE_URL": f"azure://{STORE}", "FARM_STORE_SECRET": connection},
                target={"type": "azure", "access_key": connection, "bucket": FILMS},
            )


@contextmanager
def gcs_place(directory: Path) -> Iterator[Place]:
    """The emulator of Google's storage."""
    with gcs_server(directory) as port:
        endpoint = f"http://127.0.0.1:{port}"
        httpx.post(f"{endpoint}/storage/v1/b", json={"name": FILMS}).raise_for_status()

        def read(where: str, key: str) -> bytes:
            return httpx.get(f"{endpoint}/{where}/{key}", timeout=60).raise_for_status().content

        yield Place(
            read,
            lambda _: [f"upload {file.name}" for file in directory.rglob(".upload-*")],
            # The emulator lets every token in.
            target={"type": "gcs", "secret": "ya29.x", "bucket": FILMS},
            within=words_of(endpoint),
        )


@contextmanager
def sftp_place(directory: Path) -> Iterator[Place]:
    """An OpenSSH server."""
    with sshd(directory) as server:
        films = directory / FILMS
        login = {"username": getuser(), "auth_method": "KEY", "private_key": server.key}
        yield Place(
            lambda _, key: (films / key).read_bytes(),
            lambda _: _unfinished(_files(films)),
            target={"type": "sftp", "host": "127.0.0.1", "port": server.port, "path": str(films), **login},
        )


def _unfinished(keys: list[str]) -> list[str]:
    """Drafts, and copies of spools: finished files have no dot in front of their names or directories."""
    return [key for key in keys if key not in _KEPT and ("/." in f"/{key}" or key.endswith(".part"))]


def _files(directory: Path) -> list[str]:
    return [str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()]
