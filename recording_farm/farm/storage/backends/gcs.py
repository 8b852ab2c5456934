"""Google Cloud Storage."""

import base64
import hashlib
import io
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final

import requests
from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Client
from google.oauth2.credentials import Credentials as UserCredentials
from google.oauth2.service_account import Credentials
from google.resumable_media import InvalidResponse
from google.resumable_media.common import RetryStrategy
from google.resumable_media.requests import ResumableUpload

from recording_farm.farm.storage.backend import (
    CHECK_NAME,
    CHECK_TEXT,
    NOT_READ_BACK,
    Checkpoint,
    Part,
    StorageError,
    StoredObject,
    certificate_named,
    check_key,
    expired_credentials,
    is_time_out,
    pieces_of,
)
from recording_farm.farm.storage.backends.answers import bounded_answers
from recording_farm.farm.storage.backends.gcs_parts import RULES, GcsParts, crc32c_of
from recording_farm.farm.storage.parts import (
    UPLOAD_GONE,
    Data,
    PartRules,
    SentPart,
    check_part,
    in_order,
    size_of,
)

logger = logging.getLogger(__name__)

CHUNK_BYTES: Final = 8 << 20
GOOGLE_ENDPOINT: Final = "https://storage.googleapis.com"
GOOGLE_TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - where tokens come from
_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_write"
_ACCESS_TOKEN: Final = re.compile(r"ya29\.[!-~]+")
"""Google's, as https://cloud.google.com/docs/authentication/token-types shows them."""
_LONGEST_LINK_SECONDS: Final = 7 * 86_400

_COMPLETE: Final = {HTTPStatus.OK, HTTPStatus.CREATED}
_GONE: Final = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}

_REASONS: Final[dict[int, tuple[str, str]]] = {
    HTTPStatus.UNAUTHORIZED: ("wrong_key", "the service account's key is not valid"),
    HTTPStatus.FORBIDDEN: (
        "no_permission",
        "the service account has no permission for this in the bucket {bucket}",
    ),
    HTTPStatus.NOT_FOUND: ("no_bucket", "there is no bucket {bucket}"),
}
"""Google's errors in words for the customer. All are lasting: the customer must change something."""


@dataclass(frozen=True)
class GcsBucket:
    """A bucket and its credentials: Google's JSON, or an access token.

    The JSON is the key of a service account, or a user's (`authorized_user`, with a refresh token).
    `endpoint` and `token_url` are for emulators, which need no `credentials`.
    """

    bucket: str
    credentials: str | None = field(repr=False)
    endpoint: str = GOOGLE_ENDPOINT
    token_url: str = GOOGLE_TOKEN_URL


class GcsBackend:
    """The backend for a bucket."""

    def __init__(self, bucket: GcsBucket, *, connect_timeout: float = 10, read_timeout: float = 60) -> None:
        """Does not connect yet. The time-outs (s) apply to each request.

        Raises StorageError for invalid credentials or an invalid bucket name.
        """
        self._name = bucket.bucket
        self._endpoint = bucket.endpoint
        self._credentials = _credentials(bucket)
        self._session = _Session(self._credentials, (connect_timeout, read_timeout))
        client = Client(
            project=getattr(self._credentials, "project_id", None) or "none",
            credentials=self._credentials,
            client_options={"api_endpoint": bucket.endpoint},
            _http=self._session,
        )
        self._parts = GcsParts(self._session, bucket.endpoint, bucket.bucket)
        try:
            self._bucket = client.bucket(bucket.bucket)
        except ValueError as error:
            text = f"{bucket.bucket} is not a valid bucket name"
            raise StorageError("no_bucket", text, lasting=True) from error

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> StoredObject:
        """See `StorageBackend`. Uploads chunks of 8 MiB in turn; after a crash it resumes.

        The checkpoint contains the upload's session URL, which lets anybody continue the upload for a week.
        """
        size = source.stat().st_size
        with source.open("rb") as file, self._explained():
            digest = _md5(file)

            def upload_of(session: str) -> _Upload:
                return _Upload(session, file, size, content_type)

            state = checkpoint.load(source, key)
            stored = None
            if state is not None:
                stored = self._resume(upload_of(str(state["session"])), checkpoint)
            # An earlier attempt may have succeeded, with its response lost.
            if stored is None and (state is None or not self._is_there(key, size, digest)):
                session = self._begin(key, size, digest, content_type)
                checkpoint.save(source, key, {"session": session})
                stored = self._send(upload_of(session), checkpoint)
            is_there = self._is_there(key, size, digest)
        checkpoint.clear()
        was_read = is_there is not None
        if is_there is None and stored is not None:
            is_there = (int(stored.get("size", -1)), stored.get("md5Hash")) == (size, digest)
        if not is_there:
            raise StorageError("damaged", "the file was damaged in transit")
        return self._stored(key, size, was_read=was_read)

    @property
    def part_rules(self) -> PartRules:
        """See `PartsBackend`."""
        return RULES

    def begin_parts(self, key: str, content_type: str) -> dict[str, Any]:
        """See `PartsBackend`."""
        with self._explained():
            return self._parts.create(key, content_type)

    def send_part(self, key: str, begun: dict[str, Any], part: Part, data: Data) -> dict[str, Any]:
        """See `PartsBackend`."""
        check_part(part, data)
        with self._explained():
            return self._parts.send(key, begun, part, data)

    def finish_parts(self, key: str, begun: dict[str, Any], sent: Sequence[SentPart]) -> StoredObject:
        """See `PartsBackend`. Verifies the CRC-32C, which is combined of the parts'; there is no MD5."""
        sent = in_order(sent)
        size, crc = size_of(sent), crc32c_of(sent)
        with self._explained():
            try:
                told = self._parts.complete(key, begun, sent)
            except StorageError as error:
                # An earlier attempt may have succeeded, with its response lost.
                if error.reason != UPLOAD_GONE or not self._is_there(key, size, crc32c=crc):
                    raise
                told = None
            is_there = self._is_there(key, size, crc32c=crc)
        if is_there is False or told not in {None, crc}:
            raise StorageError("damaged", "the file was damaged in transit")
        return self._stored(key, size, was_read=is_there is not None)

    def abort_parts(self, key: str, begun: dict[str, Any]) -> None:
        """See `PartsBackend`."""
        with self._explained():
            self._parts.abort(key, begun)

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:
        """See `StorageBackend`. Links last a week at most; only a service account can sign."""
        if not isinstance(self._credentials, Credentials):
            return None
        url: str = self._bucket.blob(key).generate_signed_url(
            version="v4",
            expiration=timedelta(seconds=min(seconds, _LONGEST_LINK_SECONDS)),
            response_disposition=f'inline; filename="{name}"',
            response_type=content_type,
            api_access_endpoint=self._endpoint,
        )
        return url

    def delete(self, key: str) -> None:
        """See `StorageBackend`."""
        with self._explained():
            try:
                self._bucket.blob(key).delete(retry=None)
            except NotFound:
                logger.debug("%s was not there", key)

    def check_writing(self, directory: str = "") -> list[str]:
        """See `CustomerBackend`. Starts and cancels an upload, which needs the permission to write."""
        key = check_key(directory, CHECK_NAME)
        with self._explained():
            session = self._begin(key, len(CHECK_TEXT), _md5(io.BytesIO(CHECK_TEXT)), "text/plain")
            # An upload that is not cancelled expires after a week, and never becomes visible.
            self._session.request("DELETE", session, headers={"Content-Length": "0"})
        return []

    def _begin(self, key: str, size: int, digest: str, content_type: str) -> str:
        """Start an upload; returns its session URL, which lets anybody continue it for a week."""
        blob = self._bucket.blob(key)
        # The server rejects the file if its MD5 differs.
        blob.md5_hash = digest
        url: str = blob.create_resumable_upload_session(
            content_type=content_type, size=size, checksum=None, retry=None
        )
        return url

    def _resume(self, upload: "_Upload", checkpoint: Checkpoint) -> dict[str, Any] | None:
        """Resume an upload; None if the server no longer knows it.

        Returns the server's description of the object, as `_send` does.
        """
        try:
            upload.recover(self._session)
        except InvalidResponse as error:
            if error.response.status_code in _GONE:
                return None
            if error.response.status_code in _COMPLETE:
                return _description(error.response)
            raise
        return self._send(upload, checkpoint)

    def _send(self, upload: "_Upload", checkpoint: Checkpoint) -> dict[str, Any]:
        """Send the missing chunks; returns the server's description of the complete object."""
        logger.info("%s: uploading from byte %d", self._name, upload.bytes_uploaded)
        try:
            while True:
                answer = upload.send_chunk(self._session)
                if upload.finished:
                    return _description(answer)
        except InvalidResponse as error:
            if error.response.status_code != HTTPStatus.BAD_REQUEST:
                raise
            # The MD5 differs, or client and server disagree about the offset: the next attempt starts over.
            checkpoint.clear()
            raise StorageError("damaged", "the file was damaged in transit") from error

    def _stored(self, key: str, size: int, *, was_read: bool) -> StoredObject:
        return StoredObject(f"gs://{self._name}/{key}", size, None if was_read else NOT_READ_BACK)

    def _is_there(
        self, key: str, size: int, digest: str | None = None, *, crc32c: str | None = None
    ) -> bool | None:
        """Whether the object is this file, by its MD5 or its CRC-32C; None if the key may not read it."""
        blob = self._bucket.blob(key)
        try:
            blob.reload(retry=None)
        except NotFound:
            return False
        except Forbidden:
            return None
        is_same = blob.md5_hash == digest if crc32c is None else blob.crc32c == crc32c
        return bool(blob.size == size and is_same)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors into StorageErrors for the customer; limit the server's answers."""
        try:
            with bounded_answers(), certificate_named():
                yield
        except InvalidResponse as error:
            raise self._explanation(error.response.status_code) from error
        except GoogleAPICallError as error:
            raise self._explanation(error.code) from error
        except RefreshError as error:
            if self._is_token:
                # The library tries to refresh the token, and has no refresh token.
                raise expired_credentials("rights of the access token") from error
            text = "Google does not accept the service account's key"
            raise StorageError("wrong_key", text, lasting=True) from error
        except requests.exceptions.ReadTimeout as error:
            raise StorageError("timed_out", "the server did not answer in time") from error
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout, TransportError) as error:
            if is_time_out(error) and not isinstance(error, requests.exceptions.ConnectTimeout):
                raise StorageError("timed_out", "the server did not answer in time") from error
            raise StorageError("unreachable", f"{self._endpoint} cannot be reached") from error
        except (requests.exceptions.RequestException, GoogleAuthError) as error:
            raise StorageError("failed", f"the upload failed: {type(error).__name__}") from error

    @property
    def _is_token(self) -> bool:
        return isinstance(self._credentials, UserCredentials) and self._credentials.refresh_token is None

    def _explanation(self, status: int) -> StorageError:
        if status == HTTPStatus.UNAUTHORIZED and self._is_token:
            return expired_credentials("rights of the access token")
        if status in _REASONS:
            reason, text = _REASONS[status]
            return StorageError(reason, text.format(bucket=self._name), lasting=True)
        return StorageError("failed", f"the server answered {status}")


class _Session(AuthorizedSession):  # type: ignore[misc]  # the library has no types
    """A session with time-outs for all requests: not all of the library's methods accept them."""

    def __init__(self, credentials: Any, timeouts: tuple[float, float]) -> None:
        super().__init__(credentials, refresh_timeout=sum(timeouts))
        self._timeouts = timeouts

    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> requests.Response:
        options["timeout"] = self._timeouts
        answer: requests.Response = super().request(method, url, *arguments, **options)
        return answer


class _Upload(ResumableUpload):  # type: ignore[misc]  # the library has no types
    """A resumable upload that this process or another one has started."""

    def __init__(self, session: str, file: BinaryIO, size: int, content_type: str) -> None:
        super().__init__(session, CHUNK_BYTES)
        # The library has no constructor for an upload that another process has started.
        self._resumable_url = session
        self._stream = file
        self._total_bytes = size
        self._content_type = content_type
        self._retry_strategy = RetryStrategy(max_retries=2, initial_delay=1, max_sleep=4)
        file.seek(0)

    def send_chunk(self, session: _Session) -> requests.Response:
        # The server may have stored only a part of the last chunk.
        self._stream.seek(self.bytes_uploaded)
        answer: requests.Response = self.transmit_next_chunk(session)
        return answer


def _credentials(bucket: GcsBucket) -> Any:
    if bucket.credentials is None:
        return AnonymousCredentials()
    text = bucket.credentials.strip()
    if _ACCESS_TOKEN.fullmatch(text):
        return UserCredentials(text)
    try:
        account = json.loads(text)
        if account.get("type") == "authorized_user":
            return UserCredentials(
                None,
                **{name: str(account[name]) for name in ("refresh_token", "client_id", "client_secret")},
                token_uri=bucket.token_url,
            )
        # The token URL is not taken from the customer's JSON, where it could be any address.
        return Credentials.from_service_account_info(
            {name: account[name] for name in ("client_email", "private_key")}
            | {"project_id": account.get("project_id"), "token_uri": bucket.token_url},
            scopes=[_SCOPE],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = "the credentials must be the JSON key of a service account, or an access token"
        raise StorageError("wrong_key", text, lasting=True) from error


def _description(answer: requests.Response) -> dict[str, Any]:
    """The server's description of a complete object."""
    try:
        description = answer.json()
    except ValueError:
        return {}
    return description if isinstance(description, dict) else {}


def _md5(file: BinaryIO) -> str:
    """The MD5 of a file, in Google's format."""
    digest = hashlib.md5(usedforsecurity=False)
    for data in pieces_of(file):
        digest.update(data)
    return base64.b64encode(digest.digest()).decode()
