"""The emulator of Google Cloud Storage with multipart uploads of the XML API, which it lacks.

They are as Google describes them: https://cloud.google.com/storage/docs/multipart-uploads. Google joins the
parts without copying them. So does this, when each part has come in its order but for a first one that came
later; else it copies them. The arguments are those of the emulator.
"""

import base64
import hashlib
import os
import re
import secrets
import sys
from dataclasses import dataclass, field
from functools import reduce
from html import escape
from http import HTTPStatus
from itertools import accumulate
from pathlib import Path
from typing import Any

from gcp_storage_emulator import __main__ as emulator
from gcp_storage_emulator import server
from gcp_storage_emulator.handlers import objects

from recording_farm.encoder.cut.put_in_front import insert_in_front
from recording_farm.farm.storage.crc32c import combined, crc32c

SMALLEST = 5 << 20
MOST = 10_000

_PART = re.compile(r"<Part><PartNumber>(\d+)</PartNumber><ETag>([^<]+)</ETag></Part>")


@dataclass(frozen=True)
class _Part:
    offset: int
    size: int
    etag: str
    crc32c: int
    late: bytes | None = None
    """The content of a part that came behind one of a higher number; all others are in the file."""


@dataclass
class _Upload:
    bucket: str
    key: str
    content_type: str
    file: Path
    """The parts but for late ones, in the order of their arrival, which is that of their numbers."""
    parts: dict[int, _Part] = field(default_factory=dict)


_uploads: dict[str, _Upload] = {}


def post(request: Any, response: Any, storage: Any) -> None:
    """Open an upload, or complete it."""
    bucket, key = request.params["bucket_name"], request.params["object_id"]
    if "uploadId" in request.query:
        _complete(request, response, storage)
        return
    if storage.get_bucket(bucket) is None:
        _fail(response, HTTPStatus.NOT_FOUND, "NoSuchBucket")
        return
    upload_id = f"{secrets.token_hex(8)}&"  # ids need escaping
    file = storage._store._disk_path(f".upload-{secrets.token_hex(8)}")
    file.touch()
    _uploads[upload_id] = _Upload(bucket, key, request.get_header("Content-Type"), file)
    _answer(response, f"<UploadId>{escape(upload_id)}</UploadId>")


def put(request: Any, response: Any, storage: Any) -> None:
    """Take a part, or a whole object."""
    if "uploadId" not in request.query:
        objects.xml_upload(request, response, storage)
        return
    data = request.data or b""
    upload = _upload_of(request, response)
    if upload is None:
        return
    md5 = hashlib.md5(data)
    if request.get_header("Content-MD5") != base64.b64encode(md5.digest()).decode():
        _fail(response, HTTPStatus.BAD_REQUEST, "BadDigest")
        return
    number = int(request.query["partNumber"][0])
    assert 1 <= number <= MOST
    is_late = number <= max(upload.parts, default=0)
    offset = upload.file.stat().st_size
    if not is_late:
        with upload.file.open("ab") as file:
            file.write(data)
    late = data if is_late else None
    part = upload.parts[number] = _Part(offset, len(data), f'"{md5.hexdigest()}"', crc32c(data), late)
    response["ETag"] = part.etag


def delete(request: Any, response: Any, storage: Any) -> None:  # noqa: ARG001 - as all handlers
    """Abort an upload."""
    upload = _upload_of(request, response)
    if upload is not None:
        upload.file.unlink()
        del _uploads[request.query["uploadId"][0]]
        response.status = HTTPStatus.NO_CONTENT


def _complete(request: Any, response: Any, storage: Any) -> None:
    body = (request.data or b"").decode()
    upload = _upload_of(request, response)
    if upload is None:
        return
    listed = [(int(number), etag) for number, etag in _PART.findall(body)]
    found = [upload.parts[number] for number, _ in listed if number in upload.parts]
    if not listed or [part.etag for part in found] != [etag for _, etag in listed]:
        _fail(response, HTTPStatus.BAD_REQUEST, "InvalidPart")
    elif [number for number, _ in listed] != sorted({number for number, _ in listed}):
        _fail(response, HTTPStatus.BAD_REQUEST, "InvalidPartOrder")
    elif any(part.size < SMALLEST for part in found[:-1]):
        _fail(response, HTTPStatus.BAD_REQUEST, "EntityTooSmall")
    else:
        size = sum(part.size for part in found)
        described = objects._make_object_resource(
            request.base_url, upload.bucket, upload.key, upload.content_type, str(size)
        )
        # Google has no MD5 of such an object.
        crc = reduce(lambda before, part: combined(before, part.crc32c, part.size), found, 0)
        described["crc32c"] = base64.b64encode(crc.to_bytes(4, "big")).decode()
        described["etag"] = secrets.token_hex(8)
        storage.create_file(upload.bucket, upload.key, b"", described)
        _join(upload.file, found)
        upload.file.rename(storage._store._disk_path(storage._object_path(upload.bucket, upload.key)))
        del _uploads[request.query["uploadId"][0]]
        response["x-goog-hash"] = f"crc32c={described['crc32c']}"
        _answer(response, f"<Key>{escape(upload.key)}</Key>")


def _join(path: Path, parts: list[_Part]) -> None:
    """Bring the parts into their order."""
    first, *rest = parts
    with path.open("r+b") as file:
        end = sum(part.size for part in rest)
        offsets = [0, *accumulate(part.size for part in rest)]
        is_in_order = all(
            part.late is None and part.offset == offset for part, offset in zip(rest, offsets, strict=False)
        )
        if first.late is not None and rest and is_in_order:
            file.truncate(end)
            if insert_in_front(file.fileno(), first.size):
                os.pwrite(file.fileno(), first.late, 0)
                return
        content = [part.late or os.pread(file.fileno(), part.size, part.offset) for part in parts]
    path.write_bytes(b"".join(content))


def _upload_of(request: Any, response: Any) -> _Upload | None:
    upload = _uploads.get(request.query["uploadId"][0])
    if upload is None or (upload.bucket, upload.key) != tuple(request.params.values()):
        _fail(response, HTTPStatus.NOT_FOUND, "NoSuchUpload")
        return None
    return upload


def _fail(response: Any, status: HTTPStatus, code: str) -> None:
    response.status = status
    response.write_file(f"<Error><Code>{code}</Code></Error>", "application/xml")


def _answer(response: Any, content: str) -> None:
    response.write_file(f"<?xml version='1.0'?><Result>{content}</Result>", "application/xml")


if __name__ == "__main__":
    # The last entry is that of the XML API.
    server.HANDLERS[-1][1].update({"POST": post, "PUT": put, "DELETE": delete})
    emulator.main(sys.argv[1:])
