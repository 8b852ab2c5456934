"""Multipart uploads of a bucket: open, send, complete, abort, list."""

import base64
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from recording_farm.farm.storage.backend import Part, StorageError
from recording_farm.farm.storage.backends.etags import etag_is_md5, etag_of, known_etag, md5, unquoted
from recording_farm.farm.storage.backends.s3_client import (
    EXPIRED,
    REFUSED,
    Body,
    S3Bucket,
    code_of,
    status_of,
)
from recording_farm.farm.storage.parts import Data, PartRules, SentPart, Unfinished

MAX_PARTS: Final = 10_000
"""S3's maximum number of parts, and of a part's number."""

UNFINISHABLE: Final = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
"""Error codes for an upload that does not exist, or cannot be completed with these parts."""

_R2: Final = ".r2.cloudflarestorage.com"
_MAX_PAGES: Final = 1000
"""Of a list of uploads, with 1000 uploads each."""


class S3Parts:
    """Multipart uploads of a bucket. Methods raise the library's errors."""

    def __init__(self, client: Any, bucket: S3Bucket) -> None:
        """`client` is of `s3_client.client_of`."""
        self._client = client
        self._bucket = bucket

    @property
    def rules(self) -> PartRules:
        """What parts must be like; in Cloudflare's R2 they must have the same size."""
        is_r2 = (urlsplit(self._bucket.endpoint or "").hostname or "").endswith(_R2)
        return PartRules(smallest=5 << 20, largest=5 << 30, most=MAX_PARTS, same_size=is_r2)

    def create(self, key: str, content_type: str) -> dict[str, Any]:
        """Open an upload; returns its state as JSON."""
        answer = self._client.create_multipart_upload(
            Bucket=self._bucket.bucket, Key=key, ContentType=content_type, **self._bucket.properties
        )
        return {
            "upload_id": answer["UploadId"],
            "etag_is_md5": etag_is_md5(answer),
            "began": _time_of(answer).timestamp(),
        }

    def send(self, key: str, begun: dict[str, Any], part: Part, data: Data) -> dict[str, Any]:
        """Send a part; returns its receipt. Raises StorageError when the server got other data."""
        digest = md5(data)
        answer = self._client.upload_part(
            **self._upload(key, begun),
            PartNumber=part.number,
            Body=Body(data),
            ContentLength=part.size,
            # The server rejects a part that was damaged in transit.
            ContentMD5=base64.b64encode(digest).decode(),
        )
        # Not all servers tell with each part that they encrypt it.
        if begun.get("etag_is_md5", True) and known_etag(answer) not in {None, digest.hex()}:
            raise StorageError("damaged", f"part {part.number} was damaged in transit")
        return {"etag": unquoted(answer["ETag"]), "md5": digest.hex()}

    def complete(self, key: str, begun: dict[str, Any], sent: Sequence[SentPart]) -> dict[str, Any]:
        """Make the object of its parts; returns the response."""
        parts = [{"PartNumber": each.part.number, "ETag": each.receipt["etag"]} for each in sent]
        answer: dict[str, Any] = self._client.complete_multipart_upload(
            **self._upload(key, begun), MultipartUpload={"Parts": parts}
        )
        return answer

    def arrived(self, key: str, begun: dict[str, Any]) -> dict[int, tuple[int, str]] | None:
        """Size and ETag of each part that the server has; None if the upload no longer exists.

        A write-only key may not list parts: then the acknowledged `parts` of `begun` count.
        """
        arrived: dict[int, tuple[int, str]] = {}
        try:
            pages = self._client.get_paginator("list_parts").paginate(**self._upload(key, begun))
            for number, page in enumerate(pages):
                for part in page.get("Parts", ()):
                    arrived[part["PartNumber"]] = part["Size"], unquoted(part["ETag"])
                if number >= MAX_PARTS or len(arrived) > MAX_PARTS:
                    raise StorageError("bad_answer", "the server lists more parts than an upload has")
        except ClientError as error:
            if code_of(error) == "NoSuchUpload":
                return None
            if status_of(error) not in REFUSED or code_of(error) in EXPIRED:
                raise
            return {int(number): (size, etag) for number, (size, etag) in begun.get("parts", {}).items()}
        return arrived

    def abort(self, key: str, begun: dict[str, Any]) -> None:
        """Drop an upload; a missing one is no error."""
        try:
            self._client.abort_multipart_upload(**self._upload(key, begun))
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """The uploads of keys that start with `prefix`."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket.bucket, Prefix=prefix
        )
        try:
            for number, page in enumerate(pages):
                if number >= _MAX_PAGES:
                    raise StorageError("bad_answer", "the server's list of uploads does not end")
                for upload in page.get("Uploads", ()):
                    # Not all servers support prefixes.
                    if upload["Key"].startswith(prefix):
                        begun = {"upload_id": upload["UploadId"]}
                        yield Unfinished(upload["Key"], begun, upload["Initiated"].astimezone(UTC))
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":  # rclone's answer for an empty list
                raise

    def _upload(self, key: str, begun: dict[str, Any]) -> dict[str, Any]:
        return {"Bucket": self._bucket.bucket, "Key": key, "UploadId": begun["upload_id"]}


def etag_of_parts(sent: Sequence[SentPart]) -> str:
    """The ETag of an object of these parts, from their receipts."""
    return etag_of([bytes.fromhex(each.receipt["md5"]) for each in sent])


def is_younger(head: dict[str, Any], begun: dict[str, Any]) -> bool:
    """Whether an object was written after an upload was opened, by the server's clock."""
    return bool(head["LastModified"].timestamp() >= begun["began"] - 1)


def _time_of(answer: dict[str, Any]) -> datetime:
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    with suppress(ValueError):
        return parsedate_to_datetime(date)
    return datetime.now(UTC)
