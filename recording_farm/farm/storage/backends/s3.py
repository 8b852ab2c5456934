"""S3 and compatible storage: AWS, DigitalOcean Spaces, Cloudflare R2, MinIO and others."""

import base64
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Literal

from botocore.exceptions import ClientError

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
    check_came_back,
    check_key,
    check_size,
    left_behind,
    parts_of,
)
from recording_farm.farm.storage.backends.answers import each_within
from recording_farm.farm.storage.backends.disk import disk_faults
from recording_farm.farm.storage.backends.etags import (
    can_be_of,
    etag_is_md5,
    etag_of,
    known_etag,
    md5,
)
from recording_farm.farm.storage.backends.s3_client import (
    CONNECTIONS,
    EXPIRED,
    REASONS,
    REFUSED,
    Body,
    S3Bucket,
    client_of,
    code_of,
    explained,
    status_of,
)
from recording_farm.farm.storage.backends.s3_parts import (
    MAX_PARTS,
    UNFINISHABLE,
    S3Parts,
    etag_of_parts,
    is_younger,
)
from recording_farm.farm.storage.backends.threads import each
from recording_farm.farm.storage.parts import (
    Data,
    PartRules,
    SentPart,
    Unfinished,
    check_part,
    in_order,
    size_of,
    upload_gone,
)

logger = logging.getLogger(__name__)

PART_BYTES: Final = 8 << 20
"""Parts of larger files than 80 GiB are larger."""
SINGLE_BYTES: Final = 2 * PART_BYTES
"""Files up to this size are uploaded in one request: two round trips instead of five."""
THREADS: Final = CONNECTIONS
_READ_BYTES: Final = 1 << 20
_BUFFERED_BYTES: Final = THREADS * PART_BYTES
"""How much of a file is in memory at a time; more only for files over 320 GiB, whose parts are larger."""

_PAGE_KEYS: Final = 1000
"""Files in a page of a list, as many as S3 allows."""

_MAX_PAGES: Final = 1000
"""Of a list of files."""

_BAD_DIGEST: Final = frozenset({"BadDigest", "InvalidDigest"})


class S3Backend:
    """The backend for a bucket."""

    def __init__(
        self, bucket: S3Bucket, *, connect_timeout: float = 10, read_timeout: float = 60, tries: int = 3
    ) -> None:
        """Does not connect yet. The time-outs (s) apply to each of the `tries`.

        Raises StorageError for an invalid region or endpoint.
        """
        self._bucket = bucket
        self._client = client_of(bucket, connect_timeout, read_timeout, tries)
        self._parts = S3Parts(self._client, bucket)

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> StoredObject:
        """See `StorageBackend`. Uploads parts of 8 MiB, four at once; after a crash only missing ones."""
        size = source.stat().st_size
        with explained(self._bucket):
            if size <= SINGLE_BYTES:
                was_read = self._put(source, key, content_type)
            else:
                was_read = self._put_in_parts(source, size, key, checkpoint, content_type)
        checkpoint.clear()
        return self._stored(key, size, was_read=was_read)

    @property
    def part_rules(self) -> PartRules:
        """See `PartsBackend`. Cloudflare's R2 requires parts of one size."""
        return self._parts.rules

    def begin_parts(self, key: str, content_type: str) -> dict[str, Any]:
        """See `PartsBackend`."""
        with explained(self._bucket):
            return self._parts.create(key, content_type)

    def send_part(self, key: str, begun: dict[str, Any], part: Part, data: Data) -> dict[str, Any]:
        """See `PartsBackend`."""
        check_part(part, data)
        with explained(self._bucket):
            try:
                return self._parts.send(key, begun, part, data)
            except ClientError as error:
                if code_of(error) == "NoSuchUpload":
                    raise upload_gone() from error
                raise

    def finish_parts(self, key: str, begun: dict[str, Any], sent: Sequence[SentPart]) -> StoredObject:
        """See `PartsBackend`. The ETag is made of the parts' MD5s, so nothing is read again."""
        sent = in_order(sent)
        size, etag = size_of(sent), etag_of_parts(sent)
        with explained(self._bucket):
            try:
                answer = self._parts.complete(key, begun, sent)
            except ClientError as error:
                if code_of(error) not in UNFINISHABLE:
                    raise
                if self._was_finished(key, begun, size, etag):
                    return self._stored(key, size, was_read=True)
                raise upload_gone() from error
            was_read = self._verify(key, size, etag, answer)
        return self._stored(key, size, was_read=was_read)

    def abort_parts(self, key: str, begun: dict[str, Any]) -> None:
        """See `PartsBackend`."""
        with explained(self._bucket):
            self._parts.abort(key, begun)

    def unfinished_parts(self, prefix: str) -> Iterator[Unfinished]:
        """See `UnfinishedParts`."""
        return each_within(self._parts.unfinished(prefix), lambda: explained(self._bucket))

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:
        """See `StorageBackend`. Links last a week at most."""
        url: str = self._client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self._bucket.bucket,
                "Key": key,
                "ResponseContentDisposition": f'inline; filename="{name}"',
                "ResponseContentType": content_type,
            },
            ExpiresIn=min(seconds, 7 * 86_400),
        )
        return url

    def fetch(self, key: str, target: Path) -> None:
        """See `StoreBackend`. The checksum is the MD5 in the object's ETag; with KMS there is none."""
        where = {"Bucket": self._bucket.bucket, "Key": key}
        with disk_faults(target.parent), atomic_file(target) as draft, explained(self._bucket, download=True):
            answer = self._client.get_object(**where)
            with closing(answer["Body"]) as body, draft.open("xb") as file:
                shutil.copyfileobj(body, file, _READ_BYTES)
            if not self._is_what_came(draft, where, answer):
                raise StorageError("damaged", "the file was damaged in transit")

    def delete(self, key: str) -> None:
        """See `StorageBackend`."""
        with explained(self._bucket):
            self._client.delete_object(Bucket=self._bucket.bucket, Key=key)

    def put_bytes(self, key: str, data: Data) -> None:
        """See `StoreBackend`."""
        digest = md5(data)
        with explained(self._bucket):
            answer = self._client.put_object(
                Bucket=self._bucket.bucket,
                Key=key,
                Body=Body(data),
                ContentLength=len(data),
                ContentMD5=_base64(digest),
                **self._bucket.properties,
            )
        if known_etag(answer) not in {None, digest.hex()}:
            raise StorageError("damaged", "the object was damaged in transit")

    def get_bytes(self, key: str, limit: int) -> bytes:
        """See `StoreBackend`."""
        with explained(self._bucket, download=True):
            answer = self._client.get_object(Bucket=self._bucket.bucket, Key=key)
            with closing(answer["Body"]) as body:
                check_size(answer["ContentLength"], limit)
                data: bytes = body.read()
        if known_etag(answer) not in {None, md5(data).hex()}:
            raise StorageError("damaged", "the object was damaged in transit")
        return data

    def list_keys(self, prefix: str) -> Iterator[str]:
        """See `StoreBackend`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket.bucket, Prefix=prefix, PaginationConfig={"PageSize": _PAGE_KEYS}
        )
        for number, page in enumerate(each_within(pages, lambda: explained(self._bucket))):
            if number >= _MAX_PAGES:
                raise StorageError("bad_answer", "the server's list of files does not end")
            yield from (found["Key"] for found in page.get("Contents", ()))

    def delete_many(self, keys: Iterable[str]) -> None:
        """See `StoreBackend`. One request each: servers disagree about the checksum of a joint one."""
        each(self.delete, keys, THREADS)

    def delete_all(self, prefix: str) -> None:
        """See `StoreBackend`."""
        self.delete_many(list(self.list_keys(prefix)))

    def check(self) -> None:
        """See `StoreBackend`."""
        where = {"Bucket": self._bucket.bucket, "Key": check_key()}
        with explained(self._bucket):
            self._put_check_text(where, md5(CHECK_TEXT))
            try:
                read = self._client.get_object(**where)["Body"].read()
            finally:
                self._client.delete_object(**where)
        check_came_back(read)

    def check_writing(self, directory: str = "") -> list[str]:
        """See `CustomerBackend`.

        Uploads with a wrong MD5: the server first checks the permission to write, then rejects the MD5, so
        nothing is written, even if the key could not delete it. Only a server that does not verify MD5s
        stores the file.
        """
        key = check_key(directory, CHECK_NAME)
        where = {"Bucket": self._bucket.bucket, "Key": key}
        with explained(self._bucket):
            try:
                answer = self._put_check_text(where, WRONG_MD5)
            except ClientError as error:
                if code_of(error) in _BAD_DIGEST:
                    return []
                if (
                    code_of(error) in REASONS
                    or code_of(error) in EXPIRED
                    or status_of(error) not in {400, 422}
                ):
                    raise
                # The server may use its own code for this, or something else may be wrong.
                answer = self._put_check_text(where, md5(CHECK_TEXT))
            return self._take_check_text_away(where, answer)

    def _put_check_text(self, where: dict[str, str], digest: bytes) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.put_object(
            **where, Body=CHECK_TEXT, ContentMD5=_base64(digest), **self._bucket.properties
        )
        return answer

    def _take_check_text_away(self, where: dict[str, str], answer: dict[str, Any]) -> list[str]:
        notes = []
        try:
            check_came_back(self._client.get_object(**where)["Body"].read())
        except ClientError as error:
            if status_of(error) in REFUSED:
                notes.append("the key may not read, so files are not read back after the upload")
            elif status_of(error) != 404:  # another check may have been faster
                raise
        # In a versioned bucket delete this version, so that no delete marker remains.
        version = {"VersionId": answer["VersionId"]} if answer.get("VersionId") else {}
        for which in (version, {}) if version else ({},):
            try:
                self._client.delete_object(**where, **which)
                return notes
            except ClientError as error:
                if status_of(error) not in REFUSED:
                    raise
        return [*notes, left_behind(where["Key"])]

    def _put(self, source: Path, key: str, content_type: str) -> bool:
        data = source.read_bytes()
        digest = md5(data)
        answer = self._client.put_object(
            Bucket=self._bucket.bucket,
            Key=key,
            Body=Body(data),
            ContentLength=len(data),
            # The server rejects data that was damaged in transit.
            ContentMD5=_base64(digest),
            ContentType=content_type,
            **self._bucket.properties,
        )
        return self._verify(key, len(data), digest.hex(), answer, source)

    def _put_in_parts(
        self, source: Path, size: int, key: str, checkpoint: Checkpoint, content_type: str
    ) -> bool:
        parts = parts_of(size, PART_BYTES, MAX_PARTS)
        state = checkpoint.load(source, key)
        arrived = self._parts.arrived(key, state) if state else None
        # An earlier attempt may have succeeded, with its response lost.
        if state and arrived is None and self._is_there(source, size, key, parts):
            return True
        if state is None or arrived is None:
            state, arrived = self._parts.create(key, content_type), {}
            checkpoint.save(source, key, state)
        try:
            sent = self._send(source, key, state, parts, arrived, checkpoint)
            answer = self._parts.complete(key, state, sent)
        except ClientError as error:
            if code_of(error) not in UNFINISHABLE:
                raise
            # The library retries when the response takes too long, and the upload may be complete by then.
            if self._is_there(source, size, key, parts):
                return True
            # The next attempt starts over: this upload no longer exists.
            checkpoint.clear()
            raise
        return self._verify(key, size, etag_of_parts(sent), answer, source)

    def _is_there(self, source: Path, size: int, key: str, parts: list[Part]) -> bool:
        """Whether the object is verifiably this file, uploaded in these parts."""
        head = self._head(key)
        etag = etag_of([md5(_read(source, part)) for part in parts])
        return isinstance(head, dict) and bool(_is_of(head, size, etag, source))

    def _send(
        self,
        source: Path,
        key: str,
        state: dict[str, Any],
        parts: list[Part],
        arrived: dict[int, tuple[int, str]],
        checkpoint: Checkpoint,
    ) -> list[SentPart]:
        """Upload the missing parts. Each is read once, for its MD5 and for the upload."""
        sent: dict[int, SentPart] = {}
        acknowledged: dict[int, tuple[int, str]] = dict(arrived)
        lock = threading.Lock()
        logger.info("%s: %d of %d parts have arrived", key, len(arrived), len(parts))

        def send(part: Part) -> None:
            data = _read(source, part)
            digest = md5(data).hex()
            there_size, etag = arrived.get(part.number, (None, ""))
            receipt = {"etag": etag, "md5": digest}
            if there_size != part.size or (state["etag_is_md5"] and etag != digest):
                receipt = self._parts.send(key, state, part, data)
                with lock:
                    acknowledged[part.number] = part.size, receipt["etag"]
                    checkpoint.save(source, key, state | {"parts": acknowledged})
            sent[part.number] = SentPart(part, receipt)

        each(send, parts, max(1, min(THREADS, _BUFFERED_BYTES // parts[0].size)))
        return in_order(list(sent.values()))

    def _verify(
        self, key: str, size: int, etag: str, answer: dict[str, Any], source: Path | None = None
    ) -> bool:
        """Whether the object could be read, after it was uploaded with its MD5 and this response came.

        Raises StorageError when it is not what was sent, by its size and, if it tells, its MD5.
        """
        head = self._head(key)
        if head == "refused":
            # The response has all fields of a HEAD but the size.
            head = answer | {"ContentLength": size}
            was_read = False
        else:
            was_read = True
        if not isinstance(head, dict) or _is_of(head, size, etag, source) is False:
            raise StorageError("damaged", "the file was damaged in transit")
        return was_read

    def _was_finished(self, key: str, begun: dict[str, Any], size: int, etag: str) -> bool:
        """Whether an upload that is not there any more has become this object; its response was lost."""
        head = self._head(key)
        if not isinstance(head, dict):
            return False
        is_of = _is_of(head, size, etag, None)
        return is_younger(head, begun) if is_of is None else is_of

    def _stored(self, key: str, size: int, *, was_read: bool) -> StoredObject:
        return StoredObject(f"s3://{self._bucket.bucket}/{key}", size, None if was_read else NOT_READ_BACK)

    def _head(self, key: str) -> dict[str, Any] | Literal["missing", "refused"]:
        try:
            head: dict[str, Any] = self._client.head_object(Bucket=self._bucket.bucket, Key=key)
        except ClientError as error:
            if code_of(error) in {"404", "NoSuchKey"}:
                return "missing"
            if status_of(error) in REFUSED:
                return "refused"
            raise
        return head

    def _is_what_came(self, draft: Path, where: dict[str, str], answer: dict[str, Any]) -> bool:
        """Whether a downloaded file matches the object, as far as its ETag shows."""

        def part_size(number: int) -> int:
            try:
                return int(self._client.head_object(**where, PartNumber=number)["ContentLength"])
            except ClientError as error:
                if number == 1:
                    raise
                logger.info("the size of part %d is not known: %s", number, code_of(error))
                return 0

        if draft.stat().st_size != answer["ContentLength"]:
            return False
        return not etag_is_md5(answer) or can_be_of(answer["ETag"], draft, part_size)


def _read(source: Path, part: Part) -> bytes:
    with source.open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), part.size, part.offset)
    if len(data) != part.size:
        raise StorageError("damaged", "the file became shorter during the upload")
    return data


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _is_of(head: dict[str, Any], size: int, etag: str, source: Path | None) -> bool | None:
    """Whether an object has this size and ETag; None if the size matches and the ETag cannot be compared."""
    found = known_etag(head)
    if head["ContentLength"] != size:
        return False
    if found is None:
        return None
    if "-" in etag and "-" not in found:
        # Some servers return the MD5 of the whole file, however it was uploaded.
        if source is None:
            return None
        with source.open("rb") as file:
            etag = hashlib.file_digest(file, "md5").hexdigest()
    return found == etag
