"""Multipart uploads of a bucket of Google Cloud Storage, by its XML API.

The JSON API has no uploads whose beginning comes last. The role Storage Object Creator is enough: it has
storage.multipartUploads.create and .abort. Google keeps an unfinished upload until a lifecycle rule of the
bucket aborts it.
"""

import base64
import hashlib
import html
import io
import re
from collections.abc import Sequence
from functools import reduce
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

import requests
from google.api_core.exceptions import from_http_status

from recording_farm.farm.storage.backend import Part, StorageError
from recording_farm.farm.storage.crc32c import combined, crc32c, crc32c_text
from recording_farm.farm.storage.parts import Data, PartRules, SentPart, no_parts, upload_gone

RULES: Final = PartRules(smallest=5 << 20, largest=5 << 30, most=10_000)

_UPLOAD_ID: Final = re.compile(r"<UploadId>([^<]+)</UploadId>")
_CODE: Final = re.compile(r"<Code>([A-Za-z]+)</Code>")
_CRC32C: Final = re.compile(r"crc32c=([A-Za-z0-9+/]{6}==)")
_UNFINISHABLE: Final = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
_NO_XML: Final = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.METHOD_NOT_ALLOWED}


class GcsParts:
    """Multipart uploads. Methods raise StorageError, and the library's errors."""

    def __init__(self, session: requests.Session, endpoint: str, bucket: str) -> None:
        """`session` adds the access token and time-outs."""
        self._session = session
        self._base = f"{endpoint}/{bucket}/"

    def create(self, key: str, content_type: str) -> dict[str, Any]:
        """Open an upload; returns its state. Raises StorageError `no_parts` where the key may not."""
        answer = self._ask("POST", key, "uploads", headers={"Content-Type": content_type})
        if answer.status_code == HTTPStatus.FORBIDDEN:
            raise no_parts("its key lacks the permission storage.multipartUploads.create")
        if answer.status_code in _NO_XML:
            raise no_parts("its server has no XML API")
        _check(answer)
        found = _UPLOAD_ID.search(answer.text)
        if found is None:
            raise StorageError("bad_answer", "the server's answer has no upload id")
        return {"upload_id": html.unescape(found[1])}

    def send(self, key: str, begun: dict[str, Any], part: Part, data: Data) -> dict[str, Any]:
        """Send a part; returns its receipt."""
        digest = hashlib.md5(data, usedforsecurity=False)
        # The server rejects a part that was damaged in transit.
        headers = {
            "Content-MD5": base64.b64encode(digest.digest()).decode(),
            "Content-Length": str(part.size),
        }
        query = urlencode({"partNumber": part.number, "uploadId": begun["upload_id"]})
        answer = self._ask("PUT", key, query, headers=headers, data=io.BytesIO(data) if part.size else b"")
        _check(answer)
        return {"etag": answer.headers["ETag"], "md5": digest.hexdigest(), "crc32c": crc32c(data)}

    def complete(self, key: str, begun: dict[str, Any], sent: Sequence[SentPart]) -> str | None:
        """Make the object of its parts; returns its CRC-32C if the server tells it."""
        parts = "".join(
            f"<Part><PartNumber>{each.part.number}</PartNumber>"
            f"<ETag>{html.escape(each.receipt['etag'], quote=False)}</ETag></Part>"
            for each in sent
        )
        answer = self._ask(
            "POST",
            key,
            urlencode({"uploadId": begun["upload_id"]}),
            headers={"Content-Type": "application/xml"},
            data=f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode(),
        )
        _check(answer)
        if "<Error>" in answer.text:  # it sends the status before it begins to work
            raise StorageError("failed", "the server could not complete the upload")
        found = _CRC32C.search(answer.headers.get("x-goog-hash", ""))
        return found[1] if found else None

    def abort(self, key: str, begun: dict[str, Any]) -> None:
        """Drop an upload; a missing one is no error."""
        answer = self._ask("DELETE", key, urlencode({"uploadId": begun["upload_id"]}))
        if answer.status_code != HTTPStatus.NOT_FOUND:
            _check(answer)

    def _ask(
        self, method: str, key: str, query: str, headers: dict[str, str] | None = None, data: Any = b""
    ) -> requests.Response:
        url = f"{self._base}{quote(key, safe='/')}?{query}"
        # Without a body the library sends no length.
        headers = {"Content-Length": "0"} | (headers or {}) if not data else headers
        return self._session.request(method, url, headers=headers, data=data, allow_redirects=False)


def crc32c_of(sent: Sequence[SentPart]) -> str:
    """The CRC-32C of an object of these parts, in Google's format."""
    value = reduce(lambda crc, each: combined(crc, each.receipt["crc32c"], each.part.size), sent, 0)
    return crc32c_text(value)


def _check(answer: requests.Response) -> None:
    if answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
        return
    found = _CODE.search(answer.text)
    code = found[1] if found else ""
    if code in _UNFINISHABLE:
        raise upload_gone()
    if code in {"BadDigest", "InvalidDigest"}:
        raise StorageError("damaged", "a part was damaged in transit")
    raise from_http_status(answer.status_code, code)
