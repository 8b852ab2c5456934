"""The connection to a bucket: boto3's client, and its errors in words for the customer."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

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

from recording_farm.farm.storage.backend import (
    StorageError,
    certificate_named,
    expired_credentials,
    is_time_out,
)
from recording_farm.farm.storage.backends.answers import AnswerError, bounded_answers

CONNECTIONS: Final = 4

_SENT_BYTES: Final = 256 << 10
"""How much is written to the connection at a time, within its time-out."""

_REDIRECTS: Final = frozenset({301, 302, 307})
"""Statuses after which the library looks for the region of the bucket."""

_session = cache(boto3.session.Session)
"""A session loads its description of S3, which takes 80 ms, with its first client. Threads may share a
client, but only one thread at a time may create one."""

_making_client: Final = threading.Lock()

_WRONG_REGION: Final = ("wrong_region", "the bucket {bucket} is not in the region {region}")
REASONS: Final = {
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

EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
REFUSED: Final = frozenset({400, 401, 403, 405, 501})
"""Statuses when a key may not read an object. A HEAD response has no error code; Amazon returns 400 when the
credentials have expired since the upload."""


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

    @property
    def properties(self) -> dict[str, Any]:
        """Headers of a new object: encryption, metadata, tags."""
        properties = {
            "ServerSideEncryption": self.encryption,
            "SSEKMSKeyId": self.kms_key_id,
            "Metadata": dict(self.metadata),
            "Tagging": self.tags,
        }
        return {name: value for name, value in properties.items() if value}


def client_of(bucket: S3Bucket, connect_timeout: float, read_timeout: float, tries: int) -> Any:
    """A client that does not connect yet. The time-outs (s) apply to each of the `tries`.

    Raises StorageError for an invalid region or endpoint.
    """
    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"total_max_attempts": tries, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
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
            client: Any = _session().client(
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
    client.meta.events.unregister("before-call.s3", add_expect_header)
    client.meta.events.register_first("needs-retry.s3.HeadBucket", _end_circles)
    return client


def _end_circles(response: tuple[Any, dict[str, Any]] | None, **_: Any) -> None:
    """Raise AnswerError when a server redirects the request for the region of a bucket, too.

    The library would send that request again for each redirect, until it exceeds Python's recursion limit.
    """
    if response is None or response[0].status_code not in _REDIRECTS:
        return
    headers = response[1]["ResponseMetadata"]["HTTPHeaders"]
    if "x-amz-bucket-region" not in headers and "Region" not in response[1].get("Error", {}):
        text = "the server redirects requests in circles; is the endpoint right?"
        raise AnswerError("redirected", text)


@cache
def load_service() -> None:
    """Load the description of S3 into this process, 0.4 s, for those that it forks."""
    client_of(S3Bucket("bucket", "key", "secret"), 1, 1, 1)


@contextmanager
def explained(bucket: S3Bucket, *, download: bool = False) -> Iterator[None]:
    """Turn errors into StorageErrors for the customer; limit the server's answers."""
    is_aws = bucket.endpoint is None
    try:
        # The library follows a redirect of another server than AWS's in circles.
        with bounded_answers(download=download, redirects=is_aws), certificate_named():
            yield
    except ClientError as error:
        raise _explanation(error, bucket) from error
    except (EndpointConnectionError, ConnectTimeoutError) as error:
        where = bucket.endpoint or "AWS"
        raise StorageError("unreachable", f"{where} cannot be reached") from error
    except ReadTimeoutError as error:
        raise StorageError("timed_out", "the server did not answer in time") from error
    except (HTTPClientError, IncompleteReadError) as error:
        if is_time_out(error):
            raise StorageError("timed_out", "the server did not answer in time") from error
        where = bucket.endpoint or "AWS"
        raise StorageError("unreachable", f"the connection to {where} was lost") from error
    except ParamValidationError as error:
        text = f"{bucket.bucket} is not a valid bucket name"
        raise StorageError("no_bucket", text, lasting=True) from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageError("failed", f"the request failed: {type(error).__name__}") from error


def _explanation(error: ClientError, bucket: S3Bucket) -> StorageError:
    code = code_of(error)
    if code in EXPIRED:
        return expired_credentials()
    if code in REASONS:
        reason, text = REASONS[code]
        message = text.format(bucket=bucket.bucket, region=bucket.region or "us-east-1")
        return StorageError(reason, message, lasting=True)
    if code == "BadDigest":
        return StorageError("damaged", "a part was damaged in transit")
    return StorageError("failed", f"the server answered {code}")


def code_of(error: ClientError) -> str:
    """S3's error code."""
    return str(error.response.get("Error", {}).get("Code", "an error"))


def status_of(error: ClientError) -> int:
    """The HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


class Body:
    """Bytes as a file-like object that returns larger reads than the 16 KiB that the library asks for.

    Plain bytes would have to be sent as a whole within the time-out of one call.
    """

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        """Does not copy `data`."""
        self._data = memoryview(data)
        self._position = 0

    def __len__(self) -> int:
        """Size in bytes."""
        return len(self._data)

    def read(self, size: int | None = -1) -> memoryview:
        """The next bytes; at least 256 KiB if there are so many."""
        begin = self._position
        end = len(self._data) if size is None or size < 0 else begin + max(size, _SENT_BYTES)
        data = self._data[begin:end]
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._data)}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position
