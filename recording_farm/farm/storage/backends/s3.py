"""S3 and compatible storage: AWS, DigitalOcean Spaces, Cloudflare R2, MinIO and others."""

import base64
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ParamValidationError,
    ReadTimeoutError,
)
from botocore.handlers import add_expect_header

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
    expired_credentials,
    is_time_out,
    left_behind,
    parts_of,
)
from recording_farm.farm.storage.backends.answers import bounded_answers
from recording_farm.farm.storage.backends.disk import disk_faults
from recording_farm.farm.storage.backends.etags import can_be_of
from recording_farm.farm.storage.backends.threads import each

logger = logging.getLogger(__name__)

PART_BYTES: Final = 8 << 20
MAX_PARTS: Final = 10_000
"""S3's maximum number of parts; parts of larger files are larger."""
SINGLE_BYTES: Final = 2 * PART_BYTES
"""Files up to this size are uploaded in one request: two round trips instead of five."""
THREADS: Final = 4
_READ_BYTES: Final = 1 << 20
_BUFFERED_BYTES: Final = THREADS * PART_BYTES
"""How much of a file is in memory at a time; more only for files over 320 GiB, whose parts are larger."""
_SENT_BYTES: Final = 256 << 10
"""How much is written to the connection at a time, within its time-out."""

_session = cache(boto3.session.Session)
"""A session loads its description of S3, which takes 80 ms, with its first client. Threads may share a
client, but only one thread at a time may create one."""

_making_client: Final = threading.Lock()

_WRONG_REGION: Final = ("wrong_region", "the bucket {bucket} is not in the region {region}")
_REASONS: Final = {
    "InvalidBucketName": ("no_bucket", "{bucket} is not a valid bucket name"),
    "InvalidTag": ("bad_tags", "S3 rejects these tags"),
    "NoSuchBucket": ("no_bucket", "there is no bucket {bucket}"),
    "NoSuchKey": ("not_found", "the bucket {bucket} has no such file"),
    "AccessDenied": ("no_permission", "the key has no permission for this in the bucket {bucket}"),
    "AllAccessDisabled": ("no_permission", "the bucket {bucket} is disabled"),
    "InvalidAccessKeyId": ("wrong_key", "the access key does not exist there"),
    "InvalidToken": ("wrong_key", "the session token does not belong to the access key"),
    "InvalidTokenId": ("wrong_key", "the access key or its session token is not valid there"),
    "SignatureDoesNotMatch": ("wrong_key", "the secret does not belong to the access key"),
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "PermanentRedirect": _WRONG_REGION,
    "IllegalLocationConstraintException": _WRONG_REGION,
    "301": _WRONG_REGION,
    "403": ("no_permission", "the key has no permission for this in the bucket {bucket}"),
    "404": ("no_bucket", "there is no bucket {bucket}"),
}
"""S3's error codes in words for the customer. All are lasting: the customer must change something."""

_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_REFUSED: Final = frozenset({400, 401, 403, 405, 501})
"""Statuses when a key may not read an object. A HEAD response has no error code; Amazon returns 400 when the
credentials have expired since the upload."""
_BAD_DIGEST: Final = frozenset({"BadDigest", "InvalidDigest"})


@dataclass(frozen=True)
class S3Bucket:
    """A bucket and its credentials.

    `endpoint` is AWS by default. `encryption` is S3's name of the encryption at rest (`AES256`, `aws:kms`),
    with the key's id for the latter.
    """

    bucket: str
    access_key: str | None
    secret: str | None = field(repr=False)
    region: str | None = None
    endpoint: str | None = None
    encryption: str | None = None
    kms_key_id: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    tags: str = ""
    session_token: str | None = field(default=None, repr=False)
    """Session token of temporary credentials."""


class S3Backend:
    """The backend for a bucket."""

    def __init__(
        self, bucket: S3Bucket, *, connect_timeout: float = 10, read_timeout: float = 60, tries: int = 3
    ) -> None:
        """Does not connect yet. The time-outs (s) apply to each of the `tries`.

        Raises StorageError for an invalid region or endpoint.
        """
        self._bucket = bucket
        config = Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            retries={"total_max_attempts": tries, "mode": "standard"},
            max_pool_connections=THREADS,
            signature_version="s3v4",
            # Other servers than AWS do not support the newer checksums; each part has its MD5.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "addressing_style": "path" if bucket.endpoint else "auto",
                # The signature covers the MD5. Without this each part also gets a SHA-256 if there is no TLS.
                "payload_signing_enabled": False,
            },
        )
        try:
            with _making_client:
                self._client: Any = _session().client(
                    "s3",
                    endpoint_url=bucket.endpoint,
                    region_name=bucket.region or "us-east-1",
                    aws_access_key_id=bucket.access_key,
                    aws_secret_access_key=bucket.secret,
                    aws_session_token=bucket.session_token,
                    config=config,
                )
        except (BotoCoreError, ValueError) as error:
            text = "invalid region or endpoint"
            raise StorageError("unreachable", text, lasting=True) from error
        # Expect: 100-continue costs a round trip for each part, and a second on servers without it.
        self._client.meta.events.unregister("before-call.s3", add_expect_header)

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> StoredObject:
        """See `StorageBackend`. Uploads parts of 8 MiB, four at once; after a crash only missing ones."""
        size = source.stat().st_size
        with self._explained():
            if size <= SINGLE_BYTES:
                was_read = self._put(source, key, content_type)
            else:
                was_read = self._put_in_parts(source, size, key, checkpoint, content_type)
        checkpoint.clear()
        return StoredObject(f"s3://{self._bucket.bucket}/{key}", size, None if was_read else NOT_READ_BACK)

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
        with disk_faults(target.parent), atomic_file(target) as draft, self._explained(download=True):
            answer = self._client.get_object(**where)
            with closing(answer["Body"]) as body, draft.open("xb") as file:
                shutil.copyfileobj(body, file, _READ_BYTES)
            if not self._is_what_came(draft, where, answer):
                raise StorageError("damaged", "the file was damaged in transit")

    def delete(self, key: str) -> None:
        """See `StorageBackend`."""
        with self._explained():
            self._client.delete_object(Bucket=self._bucket.bucket, Key=key)

    def check(self) -> None:
        """See `StoreBackend`."""
        where = {"Bucket": self._bucket.bucket, "Key": check_key()}
        with self._explained():
            self._put_check_text(where, _md5(CHECK_TEXT))
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
        with self._explained():
            try:
                answer = self._put_check_text(where, WRONG_MD5)
            except ClientError as error:
                if _code(error) in _BAD_DIGEST:
                    return []
                if _code(error) in _REASONS or _code(error) in _EXPIRED or _status(error) not in {400, 422}:
                    raise
                # The server may use its own code for this, or something else may be wrong.
                answer = self._put_check_text(where, _md5(CHECK_TEXT))
            return self._take_check_text_away(where, answer)

    def _put_check_text(self, where: dict[str, str], md5: bytes) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.put_object(
            **where, Body=CHECK_TEXT, ContentMD5=_base64(md5), **self._properties()
        )
        return answer

    def _take_check_text_away(self, where: dict[str, str], answer: dict[str, Any]) -> list[str]:
        notes = []
        try:
            check_came_back(self._client.get_object(**where)["Body"].read())
        except ClientError as error:
            if _status(error) in _REFUSED:
                notes.append("the key may not read, so files are not read back after the upload")
            elif _status(error) != 404:  # another check may have been faster
                raise
        # In a versioned bucket delete this version, so that no delete marker remains.
        version = {"VersionId": answer["VersionId"]} if answer.get("VersionId") else {}
        for which in (version, {}) if version else ({},):
            try:
                self._client.delete_object(**where, **which)
                return notes
            except ClientError as error:
                if _status(error) not in _REFUSED:
                    raise
        return [*notes, left_behind(where["Key"])]

    def _put(self, source: Path, key: str, content_type: str) -> bool:
        data = source.read_bytes()
        digest = _md5(data)
        answer = self._client.put_object(
            Bucket=self._bucket.bucket,
            Key=key,
            Body=_Body(data),
            ContentLength=len(data),
            # The server rejects data that was damaged in transit.
            ContentMD5=_base64(digest),
            ContentType=content_type,
            **self._properties(),
        )
        return self._verify(source, key, len(data), digest.hex(), answer)

    def _put_in_parts(
        self, source: Path, size: int, key: str, checkpoint: Checkpoint, content_type: str
    ) -> bool:
        parts = parts_of(size, PART_BYTES, MAX_PARTS)
        state = checkpoint.load(source, key)
        arrived = self._arrived(key, state) if state else None
        # An earlier attempt may have succeeded, with its response lost.
        if state and arrived is None and self._is_there(source, size, key, parts):
            return True
        if state is None or arrived is None:
            state, arrived = self._create(key, content_type), {}
            checkpoint.save(source, key, state)
        try:
            sent = self._send(source, key, state, parts, arrived, checkpoint)
            answer = self._client.complete_multipart_upload(
                Bucket=self._bucket.bucket,
                Key=key,
                UploadId=state["upload_id"],
                MultipartUpload={
                    "Parts": [{"PartNumber": part.number, "ETag": sent[part.number].etag} for part in parts]
                },
            )
        except ClientError as error:
            if _code(error) not in {"NoSuchUpload", "InvalidPart"}:
                raise
            # The library retries when the response takes too long, and the upload may be complete by then.
            if self._is_there(source, size, key, parts):
                return True
            # The next attempt starts over: this upload no longer exists.
            checkpoint.clear()
            raise
        etag = _etag([sent[part.number].digest for part in parts])
        return self._verify(source, key, size, etag, answer)

    def _is_there(self, source: Path, size: int, key: str, parts: list[Part]) -> bool:
        """Whether the object is verifiably this file, uploaded in these parts."""
        head = self._head(key)
        return isinstance(head, dict) and bool(_is_of(head, source, size, _etag(_digests(source, parts))))

    def _create(self, key: str, content_type: str) -> dict[str, Any]:
        """Start an upload; returns its state for the checkpoint."""
        answer = self._client.create_multipart_upload(
            Bucket=self._bucket.bucket, Key=key, ContentType=content_type, **self._properties()
        )
        return {"upload_id": answer["UploadId"], "etag_is_md5": _etag_is_md5(answer), "parts": {}}

    def _properties(self) -> dict[str, Any]:
        """Headers of a new object: encryption, metadata, tags."""
        properties = {
            "ServerSideEncryption": self._bucket.encryption,
            "SSEKMSKeyId": self._bucket.kms_key_id,
            "Metadata": dict(self._bucket.metadata),
            "Tagging": self._bucket.tags,
        }
        return {name: value for name, value in properties.items() if value}

    def _arrived(self, key: str, state: dict[str, Any]) -> dict[int, tuple[int, str]] | None:
        """Size and ETag of each uploaded part; None if the upload no longer exists.

        A write-only key may not list parts: then the acknowledged parts of the checkpoint count.
        """
        arrived: dict[int, tuple[int, str]] = {}
        try:
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket.bucket, Key=key, UploadId=state["upload_id"]
            )
            for number, page in enumerate(pages):
                for part in page.get("Parts", ()):
                    arrived[part["PartNumber"]] = part["Size"], _unquoted(part["ETag"])
                if number >= MAX_PARTS or len(arrived) > MAX_PARTS:
                    raise StorageError("bad_answer", "the server lists more parts than an upload has")
        except ClientError as error:
            if _code(error) == "NoSuchUpload":
                return None
            if _status(error) not in _REFUSED or _code(error) in _EXPIRED:
                raise
            return {int(number): (size, etag) for number, (size, etag) in state.get("parts", {}).items()}
        return arrived

    def _send(
        self,
        source: Path,
        key: str,
        state: dict[str, Any],
        parts: list[Part],
        arrived: dict[int, tuple[int, str]],
        checkpoint: Checkpoint,
    ) -> dict[int, "_Sent"]:
        """Upload the missing parts. Each is read once, for its MD5 and for the upload."""
        sent: dict[int, _Sent] = {}
        acknowledged: dict[int, tuple[int, str]] = dict(arrived)
        lock = threading.Lock()
        logger.info("%s: %d of %d parts have arrived", key, len(arrived), len(parts))

        def send(part: Part) -> None:
            data = _read(source, part)
            digest = _md5(data)
            there_size, etag = arrived.get(part.number, (None, ""))
            if there_size != part.size or (state["etag_is_md5"] and etag != digest.hex()):
                answer = self._client.upload_part(
                    Bucket=self._bucket.bucket,
                    Key=key,
                    UploadId=state["upload_id"],
                    PartNumber=part.number,
                    Body=_Body(data),
                    ContentLength=part.size,
                    # The server rejects a part that was damaged in transit.
                    ContentMD5=_base64(digest),
                )
                etag = _unquoted(answer["ETag"])
                if _known_etag(answer) not in {None, digest.hex()}:
                    raise StorageError("damaged", f"part {part.number} was damaged in transit")
                with lock:
                    acknowledged[part.number] = part.size, etag
                    checkpoint.save(source, key, state | {"parts": acknowledged})
            sent[part.number] = _Sent(digest, etag)

        each(send, parts, max(1, min(THREADS, _BUFFERED_BYTES // parts[0].size)))
        return sent

    def _verify(self, source: Path, key: str, size: int, etag: str, answer: dict[str, Any]) -> bool:
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
        if not isinstance(head, dict) or _is_of(head, source, size, etag) is False:
            raise StorageError("damaged", "the file was damaged in transit")
        return was_read

    def _head(self, key: str) -> dict[str, Any] | Literal["missing", "refused"]:
        try:
            head: dict[str, Any] = self._client.head_object(Bucket=self._bucket.bucket, Key=key)
        except ClientError as error:
            if _code(error) in {"404", "NoSuchKey"}:
                return "missing"
            if _status(error) in _REFUSED:
                return "refused"
            raise
        return head

    @contextmanager
    def _explained(self, *, download: bool = False) -> Iterator[None]:
        """Turn errors into StorageErrors for the customer; limit the server's answers."""
        is_aws = self._bucket.endpoint is None
        try:
            # The library follows a redirect of another server than AWS's in circles.
            with bounded_answers(download=download, redirects=is_aws), certificate_named():
                yield
        except ClientError as error:
            raise self._explanation(error) from error
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            where = self._bucket.endpoint or "AWS"
            raise StorageError("unreachable", f"{where} cannot be reached") from error
        except ReadTimeoutError as error:
            raise StorageError("timed_out", "the server did not answer in time") from error
        except (HTTPClientError, IncompleteReadError) as error:
            if isinstance(error.__context__, RecursionError):
                text = "the server redirects requests in circles; is the endpoint right?"
                raise StorageError("redirected", text) from error
            if is_time_out(error):
                raise StorageError("timed_out", "the server did not answer in time") from error
            where = self._bucket.endpoint or "AWS"
            raise StorageError("unreachable", f"the connection to {where} was lost") from error
        except ParamValidationError as error:
            text = f"{self._bucket.bucket} is not a valid bucket name"
            raise StorageError("no_bucket", text, lasting=True) from error
        except (BotoCoreError, Boto3Error) as error:
            raise StorageError("failed", f"the request failed: {type(error).__name__}") from error

    def _explanation(self, error: ClientError) -> StorageError:
        code = _code(error)
        if code in _EXPIRED:
            return expired_credentials()
        if code in _REASONS:
            reason, text = _REASONS[code]
            region = self._bucket.region or "us-east-1"
            message = text.format(bucket=self._bucket.bucket, region=region)
            return StorageError(reason, message, lasting=True)
        if code == "BadDigest":
            return StorageError("damaged", "a part was damaged in transit")
        return StorageError("failed", f"the server answered {code}")

    def _is_what_came(self, draft: Path, where: dict[str, str], answer: dict[str, Any]) -> bool:
        """Whether a downloaded file matches the object, as far as its ETag shows."""

        def first_part_size() -> int:
            return int(self._client.head_object(**where, PartNumber=1)["ContentLength"])

        if draft.stat().st_size != answer["ContentLength"]:
            return False
        by_kms = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
        return by_kms or can_be_of(answer["ETag"], draft, first_part_size)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "an error"))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@dataclass(frozen=True)
class _Sent:
    """An uploaded part: its MD5, and its ETag on the server."""

    digest: bytes
    etag: str


class _Body:
    """Bytes as a file-like object that returns larger reads than the 16 KiB that the library asks for.

    Plain bytes would have to be sent as a whole within the time-out of one call.
    """

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._position = 0

    def __len__(self) -> int:
        return len(self._data)

    def read(self, size: int | None = -1) -> memoryview:
        begin = self._position
        end = len(self._data) if size is None or size < 0 else begin + max(size, _SENT_BYTES)
        data = self._data[begin:end]
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._data)}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position


def _read(source: Path, part: Part) -> bytes:
    with source.open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), part.size, part.offset)
    if len(data) != part.size:
        raise StorageError("damaged", "the file became shorter during the upload")
    return data


def _digests(source: Path, parts: list[Part]) -> list[bytes]:
    return [_md5(_read(source, part)) for part in parts]


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _etag(digests: list[bytes]) -> str:
    """The ETag of a multipart upload: the MD5 of the parts' MD5s, and their number."""
    return f"{_md5(b''.join(digests)).hex()}-{len(digests)}"


def _is_of(head: dict[str, Any], source: Path, size: int, etag: str) -> bool | None:
    """Whether an object has this size and ETag; None if the size matches and the ETag is not an MD5."""
    found = _known_etag(head)
    if head["ContentLength"] != size:
        return False
    if found is None:
        return None
    if "-" in etag and "-" not in found:
        # Some servers return the MD5 of the whole file, however it was uploaded.
        with source.open("rb") as file:
            etag = hashlib.file_digest(file, "md5").hexdigest()
    return found == etag


def _known_etag(answer: dict[str, Any]) -> str | None:
    """The ETag if it is made of MD5s, as Amazon's is; None if it does not depend on the content."""
    etag = _unquoted(answer.get("ETag", ""))
    return etag if _etag_is_md5(answer) and re.fullmatch(r"[0-9a-f]{32}(-\d+)?", etag) else None


def _etag_is_md5(answer: dict[str, Any]) -> bool:
    # With a customer's key the ETag is not an MD5; that may also be the bucket's default encryption.
    return not str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")


def _unquoted(etag: str) -> str:
    return etag.strip('"')
