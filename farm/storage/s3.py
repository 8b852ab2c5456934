"""S3, and everything that speaks it: AWS, DigitalOcean Spaces, Cloudflare R2, MinIO and others."""

import base64
import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from farm.storage.disk import disk_faults, draft_of
from farm.storage.etags import can_be_of
from farm.storage.place import (
    CHECK_TEXT,
    Checkpoint,
    Part,
    Placed,
    StorageError,
    check_came_back,
    parts_of,
    pieces_of,
    slice_of,
)
from farm.storage.threads import each

logger = logging.getLogger(__name__)

PART_BYTES: Final = 8 << 20
MOST_PARTS: Final = 10_000
"""S3's own limit; parts of larger files are larger."""
THREADS: Final = 4
_READ_BYTES: Final = 1 << 20

_WRONG_REGION: Final = ("wrong_region", "the bucket {bucket} is not in the region {region}")
_REASONS: Final = {
    "NoSuchBucket": ("no_bucket", "there is no bucket {bucket}"),
    "NoSuchKey": ("not_found", "there is no such file in the bucket {bucket}"),
    "AccessDenied": ("no_permission", "the key may not do this in the bucket {bucket}"),
    "AllAccessDisabled": ("no_permission", "the bucket {bucket} is disabled"),
    "InvalidAccessKeyId": ("wrong_key", "the access key is not known there"),
    "SignatureDoesNotMatch": ("wrong_key", "the secret does not belong to the access key"),
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "PermanentRedirect": _WRONG_REGION,
    "IllegalLocationConstraintException": _WRONG_REGION,
    "301": _WRONG_REGION,
    "403": ("no_permission", "the key may not do this in the bucket {bucket}"),
    "404": ("no_bucket", "there is no bucket {bucket}"),
}
"""What S3's error codes mean for the customer. All of these last until the customer changes something."""


@dataclass(frozen=True)
class S3Bucket:
    """A bucket and how it is reached.

    `endpoint` None is AWS. `encryption` is S3's name for encryption at rest (`AES256`, `aws:kms`), with the
    key's id for the latter.
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


class S3Place:
    """A bucket as a place for files."""

    def __init__(self, bucket: S3Bucket, *, connect_timeout: float = 10, read_timeout: float = 60) -> None:
        """Nothing is sent before the first call. The time-outs (s) are those of a single request."""
        self._bucket = bucket
        self._client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=bucket.endpoint,
            region_name=bucket.region or "us-east-1",
            aws_access_key_id=bucket.access_key,
            aws_secret_access_key=bucket.secret,
            config=Config(
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                retries={"total_max_attempts": 3, "mode": "standard"},
                max_pool_connections=THREADS,
                signature_version="s3v4",
                # Servers that are not AWS know nothing of the newer checksums; each part has its MD5.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path" if bucket.endpoint else "auto"},
            ),
        )

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> Placed:
        """See `Place`. Sends parts of 8 MiB, four at once; after a crash only those that have not arrived."""
        size = source.stat().st_size
        parts = parts_of(size, PART_BYTES, MOST_PARTS)
        digests = [_md5(source, part) for part in parts]
        with self._explained():
            state = checkpoint.load(source, key)
            arrived = self._arrived(key, state["upload_id"]) if state else None
            if arrived is None and state and self._is_there(key, size, digests):
                # An earlier try got to its end, and only the answer was lost.
                checkpoint.clear()
                return self._placed(key, size)
            upload_id = str(state["upload_id"]) if state and arrived is not None else None
            if upload_id is None:
                upload_id = self._create(key, content_type)
                checkpoint.save(source, key, {"upload_id": upload_id})
            missing = [
                (part, digest)
                for part, digest in zip(parts, digests, strict=True)
                if not self._is_whole((arrived or {}).get(part.number), part, digest)
            ]
            logger.info("%s: %d of %d parts are to be sent", key, len(missing), len(parts))
            self._send(source, key, upload_id, missing)
            self._complete(key, upload_id, parts, digests)
            if not self._is_there(key, size, digests):
                raise StorageError("damaged", "the file did not arrive as it was sent")
        checkpoint.clear()
        return self._placed(key, size)

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:
        """See `Place`; S3 signs links for a week at most."""
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
        """See `StorePlace`. The checksum is the MD5 in the object's ETag; with KMS there is none."""
        where = {"Bucket": self._bucket.bucket, "Key": key}
        with disk_faults(target.parent), draft_of(target) as draft, self._explained():
            answer = self._client.get_object(**where)
            with closing(answer["Body"]) as body, draft.open("xb") as file:
                shutil.copyfileobj(body, file, _READ_BYTES)
            if not self._is_what_came(draft, where, answer):
                raise StorageError("damaged", "the file did not arrive as it is there")

    def delete(self, key: str) -> None:
        """See `Place`."""
        with self._explained():
            self._client.delete_object(Bucket=self._bucket.bucket, Key=key)

    def check(self) -> None:
        """See `Place`."""
        key = f".recording-farm-check-{token_hex(8)}"
        with self._explained():
            self._client.put_object(
                Bucket=self._bucket.bucket, Key=key, Body=CHECK_TEXT, **self._encryption()
            )
            read = self._client.get_object(Bucket=self._bucket.bucket, Key=key)["Body"].read()
            self._client.delete_object(Bucket=self._bucket.bucket, Key=key)
        check_came_back(read)

    def _placed(self, key: str, size: int) -> Placed:
        return Placed(f"s3://{self._bucket.bucket}/{key}", size)

    def _arrived(self, key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        """Size and ETag of each part that has arrived; None if there is no such upload any more."""
        arrived: dict[int, tuple[int, str]] = {}
        try:
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket.bucket, Key=key, UploadId=upload_id
            )
            for page in pages:
                for part in page.get("Parts", ()):
                    arrived[part["PartNumber"]] = part["Size"], part["ETag"].strip('"')
        except ClientError as error:
            if _code(error) != "NoSuchUpload":
                raise
            return None
        return arrived

    def _is_whole(self, arrived: tuple[int, str] | None, part: Part, digest: bytes) -> bool:
        if arrived is None or arrived[0] != part.size:
            return False
        return not self._etag_is_md5 or arrived[1] == digest.hex()

    @property
    def _etag_is_md5(self) -> bool:
        # With a key of the customer's the ETag is something else; each part's MD5 was checked on arrival.
        return self._bucket.encryption not in {"aws:kms", "aws:kms:dsse"}

    def _is_there(self, key: str, size: int, digests: list[bytes]) -> bool:
        """Whether the object is what was sent: its size, and the MD5 of its parts' MD5s."""
        try:
            head = self._client.head_object(Bucket=self._bucket.bucket, Key=key)
        except ClientError as error:
            if _code(error) in {"404", "NoSuchKey"}:
                return False
            raise
        if head["ContentLength"] != size:
            return False
        whole = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
        return not self._etag_is_md5 or head["ETag"].strip('"') == f"{whole}-{len(digests)}"

    def _create(self, key: str, content_type: str) -> str:
        more: dict[str, Any] = self._encryption()
        if self._bucket.metadata:
            more["Metadata"] = dict(self._bucket.metadata)
        if self._bucket.tags:
            more["Tagging"] = self._bucket.tags
        answer = self._client.create_multipart_upload(
            Bucket=self._bucket.bucket, Key=key, ContentType=content_type, **more
        )
        return str(answer["UploadId"])

    def _encryption(self) -> dict[str, Any]:
        if self._bucket.encryption is None:
            return {}
        kms = {"SSEKMSKeyId": self._bucket.kms_key_id} if self._bucket.kms_key_id else {}
        return {"ServerSideEncryption": self._bucket.encryption, **kms}

    def _send(self, source: Path, key: str, upload_id: str, parts: list[tuple[Part, bytes]]) -> None:
        def send(part_and_digest: tuple[Part, bytes]) -> None:
            part, digest = part_and_digest
            with slice_of(source, part) as body:
                self._client.upload_part(
                    Bucket=self._bucket.bucket,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=part.number,
                    Body=body,
                    ContentLength=part.size,
                    # The server refuses a part that was damaged on its way.
                    ContentMD5=base64.b64encode(digest).decode(),
                )

        each(send, parts, THREADS)

    def _complete(self, key: str, upload_id: str, parts: list[Part], digests: list[bytes]) -> None:
        arrived = self._arrived(key, upload_id) or {}
        for part, digest in zip(parts, digests, strict=True):
            if not self._is_whole(arrived.get(part.number), part, digest):
                raise StorageError("damaged", f"part {part.number} did not arrive as it was sent")
        etags = [{"PartNumber": part.number, "ETag": arrived[part.number][1]} for part in parts]
        self._client.complete_multipart_upload(
            Bucket=self._bucket.bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": etags}
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what went wrong in a sentence for the customer."""
        try:
            yield
        except ClientError as error:
            raise self._explanation(error) from error
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            where = self._bucket.endpoint or "AWS"
            raise StorageError("unreachable", f"{where} cannot be reached") from error
        except (ConnectionClosedError, IncompleteReadError, ResponseStreamingError) as error:
            where = self._bucket.endpoint or "AWS"
            raise StorageError("unreachable", f"the connection to {where} was lost") from error
        except ReadTimeoutError as error:
            raise StorageError("timed_out", "the server did not answer in time") from error
        except (BotoCoreError, Boto3Error) as error:
            raise StorageError("failed", f"the request failed: {type(error).__name__}") from error

    def _explanation(self, error: ClientError) -> StorageError:
        code = _code(error)
        if code in _REASONS:
            reason, text = _REASONS[code]
            region = self._bucket.region or "us-east-1"
            message = text.format(bucket=self._bucket.bucket, region=region)
            return StorageError(reason, message, lasting=True)
        return StorageError("failed", f"the server answered {code}")

    def _is_what_came(self, draft: Path, where: dict[str, str], answer: dict[str, Any]) -> bool:
        """Whether a file that was fetched is the object, as far as the server's answer tells."""

        def first_part_size() -> int:
            return int(self._client.head_object(**where, PartNumber=1)["ContentLength"])

        if draft.stat().st_size != answer["ContentLength"]:
            return False
        by_kms = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
        return by_kms or can_be_of(answer["ETag"], draft, first_part_size)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "an error"))


def _md5(source: Path, part: Part) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    with slice_of(source, part) as file:
        for data in pieces_of(file):
            digest.update(data)
    return digest.digest()
