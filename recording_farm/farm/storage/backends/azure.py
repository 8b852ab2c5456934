"""Azure Blob Storage.

A file is uploaded in blocks. Each block's id contains its MD5, which the server verifies on arrival, so the
server's block list tells which blocks are missing, and finally that the file is complete. If the credentials
may not read that list, the checkpoint records the acknowledged blocks.
"""

import base64
import hashlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from urllib.parse import parse_qs

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import (
    BlobBlock,
    BlobClient,
    BlobSasPermissions,
    BlobServiceClient,
    ContentSettings,
    LinearRetry,
    generate_blob_sas,
)

from recording_farm.encoder.atomic_file import atomic_file
from recording_farm.farm.storage.backend import (
    CHECK_NAME,
    CHECK_TEXT,
    NOT_READ_BACK,
    WRONG_MD5,
    Checkpoint,
    Part,
    StorageError,
    StoredObject,
    certificate_named,
    check_came_back,
    check_key,
    check_size,
    expired_credentials,
    is_time_out,
    left_behind,
    parts_of,
    pieces_of,
    slice_of,
)
from recording_farm.farm.storage.backends.answers import MAX_ANSWER, bounded_answers, each_within
from recording_farm.farm.storage.backends.azure_errors import REASONS, WRONG_KEY, code_of, may_not
from recording_farm.farm.storage.backends.azure_parts import (
    MAX_BLOCKS,
    Blocks,
    abort,
    begin,
    blocks_of,
    send,
    unfinished,
)
from recording_farm.farm.storage.backends.disk import disk_faults
from recording_farm.farm.storage.backends.threads import each
from recording_farm.farm.storage.parts import (
    Data,
    PartRules,
    SentPart,
    Unfinished,
    check_part,
    in_order,
    no_parts,
    size_of,
    upload_gone,
)

logger = logging.getLogger(__name__)

BLOCK_BYTES: Final = 8 << 20
"""Blocks of larger files than 390 GiB are larger."""
THREADS: Final = 4

_LISTED: Final = 1000
"""Blobs in a page of a list."""
_MAX_LISTED: Final = 1_000_000

_LISTED_BYTES: Final = 200
"""Maximum size of a block in a list of blocks, which has no pages."""

_MAX_AT_ONCE: Final = 5000 << 20
"""Azure's maximum size of a blob in one request (Put Blob, since version 2019-12-12)."""


@dataclass(frozen=True)
class AzureContainer:
    """A container and the connection string of its account, as in Azure's portal."""

    container: str
    connection_string: str = field(repr=False)


@dataclass(frozen=True)
class _Block:
    part: Part
    name: str


class AzureBackend:
    """The backend for a container."""

    def __init__(
        self,
        container: AzureContainer,
        *,
        connect_timeout: float = 10,
        read_timeout: float = 60,
        tries: int = 3,
    ) -> None:
        """Does not connect yet. The time-outs (s) apply to each of the `tries`.

        Raises StorageError for an invalid connection string.
        """
        self._container = container.container
        try:
            self._service = BlobServiceClient.from_connection_string(
                container.connection_string,
                connection_timeout=connect_timeout,
                read_timeout=read_timeout,
                max_single_get_size=BLOCK_BYTES,
                max_chunk_get_size=BLOCK_BYTES,
                retry_policy=LinearRetry(backoff=1, retry_total=tries - 1, random_jitter_range=1),
                # No redirects: they would lead away from the customer's server.
                permit_redirects=False,
            )
        except ValueError as error:
            raise StorageError("wrong_key", "the connection string is not valid", lasting=True) from error

    @property
    def endpoint(self) -> str:
        """The URL of the service, from the connection string."""
        # Without the query, which may contain a signature.
        return str(self._service.url).partition("?")[0]

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> StoredObject:
        """See `StorageBackend`. Uploads blocks of 8 MiB, four at once; after a crash only missing ones."""
        size = source.stat().st_size
        parts = [part for part in parts_of(size, BLOCK_BYTES, MAX_BLOCKS) if part.size]
        named, digest = _named(source, parts)
        blocks = [(block.name, block.part.size) for block in named]
        settings = ContentSettings(content_type=content_type, content_md5=bytearray(digest))
        most = MAX_ANSWER + _LISTED_BYTES * len(blocks)
        with self._explained(most), self._blob(key) as blob:
            is_there = self._is_there(blob, blocks, settings)
            if not is_there:
                self._put(source, blob, named, settings, checkpoint)
                is_there = self._is_there(blob, blocks, settings)
                if is_there is False:
                    raise StorageError("damaged", "the file was damaged in transit")
        checkpoint.clear()
        return self._stored(key, size, was_read=is_there is not None)

    @property
    def part_rules(self) -> PartRules:
        """See `PartsBackend`."""
        return PartRules(largest=4000 << 20, most=MAX_BLOCKS)

    def begin_parts(self, key: str, content_type: str) -> dict[str, Any]:
        """See `PartsBackend`. Azure itself has no uploads: the parts are uncommitted blocks of the blob.

        They vanish after a week without a new one, and when the blob is written otherwise.
        """
        if not self._may_replace:
            raise no_parts("its key may only create files (sp=c)")
        with self._explained(), self._blob(key) as blob:
            return begin(blob, content_type)

    def send_part(self, key: str, begun: dict[str, Any], part: Part, data: Data) -> dict[str, Any]:  # noqa: ARG002 - the blob is the upload
        """See `PartsBackend`."""
        check_part(part, data)
        with self._explained(), self._blob(key) as blob:
            return send(blob, part, data)

    def finish_parts(self, key: str, begun: dict[str, Any], sent: Sequence[SentPart]) -> StoredObject:
        """See `PartsBackend`. Block ids contain MD5s, so nothing is read again; the blob has no MD5."""
        sent = in_order(sent)
        size, blocks = size_of(sent), blocks_of(sent)
        settings = ContentSettings(content_type=begun["content_type"])
        with self._explained(MAX_ANSWER + _LISTED_BYTES * len(blocks)), self._blob(key) as blob:
            try:
                self._commit(blob, blocks, settings)
            except HttpResponseError as error:
                if code_of(error) != "InvalidBlockList":
                    raise
                # An earlier attempt may have succeeded, with its response lost.
                if not self._is_there(blob, blocks, settings):
                    raise upload_gone() from error
            is_there = self._is_there(blob, blocks, settings)
        if is_there is False:
            raise StorageError("damaged", "the file was damaged in transit")
        return self._stored(key, size, was_read=is_there is not None)

    def abort_parts(self, key: str, begun: dict[str, Any]) -> None:
        """See `PartsBackend`. Without the permission to delete, Azure drops the blocks after a week."""
        if not self._may_delete:
            return
        with self._explained(MAX_ANSWER + _LISTED_BYTES * 2 * MAX_BLOCKS), self._blob(key) as blob:
            abort(blob, begun)

    def unfinished_parts(self, prefix: str) -> Iterator[Unfinished]:
        """See `UnfinishedParts`."""
        most = MAX_ANSWER + _LISTED_BYTES * 2 * MAX_BLOCKS
        found = unfinished(self._service, self._container, prefix)
        return each_within(found, lambda: self._explained(most))

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:
        """See `StorageBackend`. None if the connection string has no account key to sign with."""
        account_key = getattr(self._service.credential, "account_key", None)
        account_name = self._service.account_name
        if account_key is None or account_name is None:
            return None
        signature = generate_blob_sas(
            account_name,
            self._container,
            key,
            account_key=account_key,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.now(UTC) + timedelta(seconds=seconds),
            content_disposition=f'inline; filename="{name}"',
            content_type=content_type,
        )
        with self._blob(key) as blob:
            return f"{blob.url}?{signature}"

    def fetch(self, key: str, target: Path) -> None:
        """See `StoreBackend`. Fetches 8 MiB ranges, four at once, and verifies the MD5 if there is one."""
        most = MAX_ANSWER + BLOCK_BYTES
        with disk_faults(target.parent), atomic_file(target) as draft, self._explained(most):
            with self._blob(key) as blob, draft.open("xb") as file:
                size, md5 = _download(blob, file)
            with draft.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
            if draft.stat().st_size != size or (md5 is not None and digest != md5):
                raise StorageError("damaged", "the file was damaged in transit")

    def delete(self, key: str) -> None:
        """See `StorageBackend`."""
        with self._explained(), self._blob(key) as blob:
            _delete(blob)

    def put_bytes(self, key: str, data: Data) -> None:
        """See `StoreBackend`."""
        with self._explained(), self._blob(key) as blob:
            # The server rejects corrupted data.
            blob.upload_blob(bytes(data), overwrite=True, validate_content="md5")

    def get_bytes(self, key: str, limit: int) -> bytes:
        """See `StoreBackend`."""
        with self._explained(MAX_ANSWER + limit), self._blob(key) as blob, _missing_named():
            download = blob.download_blob()
            check_size(download.size, limit)
            return download.readall()

    def list_keys(self, prefix: str) -> Iterator[str]:
        """See `StoreBackend`."""
        with self._service.get_container_client(self._container) as container:
            blobs = container.list_blobs(prefix, results_per_page=_LISTED)
            for number, blob in enumerate(each_within(blobs, self._explained)):
                if number >= _MAX_LISTED:
                    raise StorageError("bad_answer", "the server's list of files does not end")
                yield str(blob.name)

    def delete_many(self, keys: Iterable[str]) -> None:
        """See `StoreBackend`."""
        each(self.delete, keys, THREADS)

    def delete_all(self, prefix: str) -> None:
        """See `StoreBackend`."""
        self.delete_many(list(self.list_keys(prefix)))

    def check(self) -> None:
        """See `StoreBackend`."""
        with self._explained(), self._blob(check_key()) as blob:
            blob.upload_blob(CHECK_TEXT)
            read = blob.download_blob(0, len(CHECK_TEXT) + 1).readall()
            _delete(blob)
        check_came_back(read)

    def check_writing(self, directory: str = "") -> list[str]:
        """See `CustomerBackend`.

        Uploads with a wrong MD5: the server first checks the permission to write, then rejects the MD5, so
        nothing is written. Only a server that does not verify MD5s stores the file.
        """
        key = check_key(directory, CHECK_NAME)
        with self._explained(), self._blob(key) as blob:
            md5 = {"Content-MD5": base64.b64encode(WRONG_MD5).decode()}
            try:
                blob.upload_blob(CHECK_TEXT, headers=md5, overwrite=self._may_replace)
            except HttpResponseError as error:
                # Azurite uses a different code.
                if code_of(error) in {"Md5Mismatch", "BlobAlreadyExists"} or "MD5" in str(error):
                    return []
                raise
            try:
                _delete(blob)
            except HttpResponseError as error:
                if not may_not(error):
                    raise
                return [left_behind(key)]
        return []

    def _blob(self, key: str) -> BlobClient:
        return self._service.get_blob_client(self._container, key)

    @property
    def _signed(self) -> dict[str, str]:
        """The parameters of the connection string's SAS signature, if any: `sp`, `se` and so on."""
        query = parse_qs(str(self._service.url).partition("?")[2])
        return {name: values[-1] for name, values in query.items()}

    @property
    def _has_expired(self) -> bool:
        # The server does not say why it rejects a signature.
        try:
            expiry = datetime.fromisoformat(self._signed.get("se", "9999-01-01T00:00:00Z"))
        except ValueError:
            return False
        return (expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)) <= datetime.now(UTC)

    @property
    def _may_replace(self) -> bool:
        permissions = self._signed.get("sp")
        return permissions is None or "w" in permissions

    @property
    def _may_delete(self) -> bool:
        if "si" in self._signed:
            return False  # a stored access policy, which only the container knows
        permissions = self._signed.get("sp")
        return permissions is None or "d" in permissions

    def _stored(self, key: str, size: int, *, was_read: bool) -> StoredObject:
        return StoredObject(f"azure://{self._container}/{key}", size, None if was_read else NOT_READ_BACK)

    def _put(
        self,
        source: Path,
        blob: BlobClient,
        blocks: list[_Block],
        settings: ContentSettings,
        checkpoint: Checkpoint,
    ) -> None:
        if not self._may_replace:
            # The permission to create, without that to write, allows uploads in one request only.
            self._put_at_once(source, blob, settings, checkpoint)
            return
        self._send(source, blob, blocks, checkpoint)
        try:
            self._commit(blob, [(block.name, block.part.size) for block in blocks], settings)
        except HttpResponseError as error:
            if code_of(error) == "InvalidBlockList":
                # The next attempt starts over: the acknowledged blocks are gone.
                checkpoint.clear()
            raise

    def _commit(self, blob: BlobClient, blocks: Blocks, settings: ContentSettings) -> None:
        blob.commit_block_list([BlobBlock(block_id=name) for name, _ in blocks], content_settings=settings)

    def _put_at_once(
        self, source: Path, blob: BlobClient, settings: ContentSettings, checkpoint: Checkpoint
    ) -> None:
        name = str(blob.blob_name)
        was_sent = checkpoint.load(source, name) is not None
        checkpoint.save(source, name, {})
        try:
            self._put_blob(source, blob, settings)
        except HttpResponseError as error:
            # An earlier attempt succeeded and only its response was lost: blobs appear atomically.
            if not (was_sent and code_of(error) in {"UnauthorizedBlobOverwrite", "BlobAlreadyExists"}):
                raise

    def _put_blob(self, source: Path, blob: BlobClient, settings: ContentSettings) -> None:
        size = source.stat().st_size
        if size > _MAX_AT_ONCE:
            text = "a key that may only create files (sp=c) is limited to 5000 MiB; allow it to write (sp=w)"
            raise StorageError("no_permission", text, lasting=True)
        digest = base64.b64encode(bytes(settings.content_md5 or b"")).decode()
        with source.open("rb") as file:
            # The library would read a file that is sent in one request into memory.
            blob._client.block_blob.upload(
                size,
                file,
                headers={
                    # The server rejects a corrupted upload.
                    "Content-MD5": digest,
                    "x-ms-blob-content-md5": digest,
                    "x-ms-blob-content-type": str(settings.content_type),
                },
            )

    def _is_there(self, blob: BlobClient, blocks: Blocks, settings: ContentSettings) -> bool | None:
        """Whether the blob has exactly these blocks, with type and MD5 if any; None if it may not be read.

        A blob that was uploaded in one request has no blocks.
        """
        try:
            properties = blob.get_blob_properties()
            committed = blob.get_block_list("committed")[0] if self._may_replace else None
        except ResourceNotFoundError as error:
            if code_of(error) in REASONS:
                raise
            return False
        except HttpResponseError as error:
            if may_not(error):
                return None
            raise
        md5 = settings.content_md5
        return (
            (committed is None or [(block.id, block.size) for block in committed] == blocks)
            and properties.size == sum(size for _, size in blocks)
            and (md5 is None or properties.content_settings.content_md5 == md5)
            and properties.content_settings.content_type == settings.content_type
        )

    def _send(self, source: Path, blob: BlobClient, blocks: list[_Block], checkpoint: Checkpoint) -> None:
        arrived = self._arrived(blob)
        if arrived is None:
            arrived = (checkpoint.load(source, str(blob.blob_name)) or {}).get("blocks", {})
        acknowledged = dict(arrived)
        lock = threading.Lock()
        missing = [block for block in blocks if arrived.get(block.name) != block.part.size]
        logger.info("%s: sending %d of %d blocks", blob.blob_name, len(missing), len(blocks))

        def send(block: _Block) -> None:
            with slice_of(source, block.part) as body:
                # The server rejects a corrupted block.
                blob.stage_block(
                    block.name, cast("BinaryIO", body), length=block.part.size, validate_content="md5"
                )
            with lock:
                acknowledged[block.name] = block.part.size
                checkpoint.save(source, str(blob.blob_name), {"blocks": acknowledged})

        each(send, missing, THREADS)

    def _arrived(self, blob: BlobClient) -> dict[str, int] | None:
        """The size of each uncommitted block by id; None if the list may not be read."""
        try:
            _, uncommitted = blob.get_block_list("uncommitted")
        except ResourceNotFoundError as error:
            if code_of(error) in REASONS:
                raise
            return {}
        except HttpResponseError as error:
            if may_not(error):
                return None
            raise
        return {str(block.id): int(block.size) for block in uncommitted}

    @contextmanager
    def _explained(self, most: int = MAX_ANSWER) -> Iterator[None]:
        """Turn errors into StorageErrors for the customer; limit the server's answers to `most` bytes."""
        try:
            with bounded_answers(most), certificate_named():
                yield
        except HttpResponseError as error:
            raise self._explanation(error) from error
        except ServiceRequestError as error:
            raise StorageError("unreachable", f"{self.endpoint} cannot be reached") from error
        except ServiceResponseError as error:
            if not is_time_out(error.inner_exception):
                raise StorageError("unreachable", f"the connection to {self.endpoint} was lost") from error
            raise StorageError("timed_out", "the server did not answer in time") from error
        except AzureError as error:
            raise StorageError("failed", f"the request failed: {type(error).__name__}") from error

    def _explanation(self, error: HttpResponseError) -> StorageError:
        code = code_of(error)
        if error.status_code in {401, 403} and self._has_expired:
            return expired_credentials("rights of the shared access signature")
        if code in REASONS:
            reason, text = REASONS[code]
            return StorageError(reason, text.format(container=self._container), lasting=True)
        if isinstance(error, ClientAuthenticationError):  # a key that is no Base64 gets no further
            return StorageError(*WRONG_KEY, lasting=True)
        if error.response is None:  # it came while a file was read from the server
            if is_time_out(error):
                return StorageError("timed_out", "the server did not answer in time")
            return StorageError("unreachable", f"the connection to {self.endpoint} was lost")
        if code == "Md5Mismatch":
            return StorageError("damaged", "a block was damaged in transit")
        return StorageError("failed", f"the server answered {code or error.status_code}")


def _named(source: Path, parts: list[Part]) -> tuple[list[_Block], bytes]:
    """The blocks of a file, named by number and MD5, and the MD5 of the whole file."""
    whole = hashlib.md5(usedforsecurity=False)
    blocks = []
    for part in parts:
        digest = hashlib.md5(usedforsecurity=False)
        with slice_of(source, part) as file:
            for data in pieces_of(file):
                digest.update(data)
                whole.update(data)
        blocks.append(_Block(part, f"{part.number:05d}-{digest.hexdigest()}"))
    return blocks, whole.digest()


def _download(blob: BlobClient, file: BinaryIO) -> tuple[int, bytes | None]:
    """Write a blob to a file; returns its size and MD5.

    The library would fetch ranges in threads of its own, to which no limit of answers applies.
    """
    with _missing_named():
        first = blob.download_blob()
        properties = first.properties
        begun = next(first.chunks(), b"")
        file.write(begun)

        def fetch(part: Part) -> None:
            at = len(begun) + part.offset
            stream = blob.download_blob(
                at, part.size, etag=properties.etag, match_condition=MatchConditions.IfNotModified
            )
            for data in stream.chunks():
                os.pwrite(file.fileno(), data, at)
                at += len(data)

        if first.size > len(begun):
            each(fetch, parts_of(first.size - len(begun), BLOCK_BYTES, MAX_BLOCKS), THREADS)
    md5 = properties.content_settings.content_md5
    return first.size, bytes(md5) if md5 else None


@contextmanager
def _missing_named() -> Iterator[None]:
    """Raise StorageError for a missing blob."""
    try:
        yield
    except ResourceNotFoundError as error:
        if code_of(error) in REASONS:
            raise
        raise StorageError("not_found", "the container has no such file", lasting=True) from error


def _delete(blob: BlobClient) -> None:
    try:
        blob.delete_blob()
    except ResourceNotFoundError as error:
        if code_of(error) in REASONS:
            raise
