"""An S3 server that keeps nothing but names and ETags, so that it is the client that is measured."""

import base64
import hashlib
import sys
from typing import Any
from urllib.parse import parse_qs

import uvicorn

_OBJECTS: dict[str, tuple[int, str]] = {}
_PARTS: dict[str, dict[int, tuple[int, str]]] = {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application: PUT and HEAD of objects, and uploads in parts."""
    if scope["type"] != "http":
        return
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
    size = await _discarded(receive)
    status, etag, body = _answer(scope["method"], scope["path"], query, size, headers)
    answer = [(b"content-type", b"application/xml")]
    if etag:
        answer.append((b"etag", f'"{etag}"'.encode()))
    if scope["method"] == "HEAD":
        length = _OBJECTS.get(scope["path"], (0, ""))[0]
        answer.append((b"content-length", str(length).encode()))
    else:
        answer.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": answer})
    await send({"type": "http.response.body", "body": body})


async def _discarded(receive: Any) -> int:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return size


def _answer(
    method: str, path: str, query: dict[str, list[str]], size: int, headers: dict[str, str]
) -> tuple[int, str, bytes]:
    """Status, ETag and body."""
    etag = base64.b64decode(headers.get("content-md5", "")).hex() or "0" * 32
    match method:
        case "POST" if "uploads" in query:
            upload = str(len(_PARTS))
            _PARTS[upload] = {}
            return 200, "", _xml("InitiateMultipartUploadResult", UploadId=upload)
        case "POST" if "uploadId" in query:
            parts = sorted(_PARTS.pop(query["uploadId"][0]).items())
            digests = b"".join(bytes.fromhex(part_etag) for _, (_, part_etag) in parts)
            etag = f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"
            _OBJECTS[path] = sum(part_size for _, (part_size, _) in parts), etag
            return 200, "", _xml("CompleteMultipartUploadResult", ETag=f"&quot;{etag}&quot;")
        case "PUT" if "uploadId" in query:
            _PARTS[query["uploadId"][0]][int(query["partNumber"][0])] = size, etag
            return 200, etag, b""
        case "PUT":
            _OBJECTS[path] = size, etag
            return 200, etag, b""
        case "HEAD" if path in _OBJECTS:
            return 200, _OBJECTS[path][1], b""
        case "GET":
            return 200, "", _xml("ListBucketResult")
        case _:
            return 404, "", b""


def _xml(name: str, **fields: str) -> bytes:
    inside = "".join(f"<{field}>{value}</{field}>" for field, value in fields.items())
    return f"<{name}>{inside}</{name}>".encode()


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", lifespan="off")
