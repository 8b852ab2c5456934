"""Serves a stored file, whole or as a range (HTTP Range, RFC 9110)."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from recording_farm.api.error_responses import error_response
from recording_farm.farm.storage.backends.stored_file import StoredFile

_ONE_RANGE: Final = re.compile(r"bytes=(?P<first>[0-9]{0,100})-(?P<last>[0-9]{0,100})", re.IGNORECASE)


def asked_bytes(header: str, size: int) -> range | None:
    """The range of a Range header in a file of `size` bytes; an empty range if it is not satisfiable.

    None means the whole file: the header is not a byte range, or has several. A server may ignore these
    (RFC 9110, 14.2), and many ranges would be an easy denial of service.
    """
    asked = _ONE_RANGE.fullmatch(header.strip())
    if asked is None or not (asked["first"] or asked["last"]):
        return None
    if not asked["first"]:
        return range(max(size - int(asked["last"]), 0), size)
    first = int(asked["first"])
    last = int(asked["last"]) if asked["last"] else max(size - 1, first)
    return range(first, min(last + 1, size)) if last >= first else None


Turn = Callable[[], AbstractAsyncContextManager[None]]
"""Waits for a turn, and holds it until the block ends."""


@dataclass(frozen=True)
class Shares:
    """An organization's shares of downloads and of their reads; see `api.services.turns`."""

    download: Turn
    read: Turn


def file_response(request: Request, file: StoredFile, headers: Mapping[str, str], shares: Shares) -> Response:
    """The response to a GET or HEAD; it closes the file. `headers` describe the file.

    The file is read in threads, at the pace of the client. The response raises what `shares` raise.
    """
    etag = f'"{file.modified_ns:x}-{file.size:x}"'
    modified = formatdate(file.modified_ns // 10**9, usegmt=True)
    asked = _asked(request, file.size, {etag, modified})
    if asked is not None and not asked:
        file.close()
        message = f"the requested range is outside the file, which has {file.size} bytes"
        return error_response(
            416, "range_not_satisfiable", message, {"Content-Range": f"bytes */{file.size}"}
        )
    part = range(file.size) if asked is None else asked
    more = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(len(part)),
        "ETag": etag,
        "Last-Modified": modified,
    }
    if asked is not None:
        more["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{file.size}"
    body = range(0) if request.method == "HEAD" else part
    return _FileResponse(file, body, 200 if asked is None else 206, {**headers, **more}, shares)


def _asked(request: Request, size: int, validators: set[str]) -> range | None:
    header = request.headers.get("range")
    # Ranges apply to GET only, and with If-Range only to the version that the client has a part of.
    if header is None or request.method != "GET":
        return None
    if request.headers.get("if-range") not in {None, *validators}:
        return None
    return asked_bytes(header, size)


class _FileResponse(StreamingResponse):
    """A response that always closes its file, also when the client disconnects."""

    def __init__(
        self, file: StoredFile, part: range, status: int, headers: Mapping[str, str], shares: Shares
    ) -> None:
        super().__init__(_read(file, part, shares.read), status, headers)
        self._file = file
        self._shares = shares

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._shares.download():
                await super().__call__(scope, receive, send)
        finally:
            # No thread reads any more: `run_in_threadpool` waits for it, also after a disconnect.
            self._file.close()


async def _read(file: StoredFile, part: range, turn: Turn) -> AsyncIterator[bytes]:
    pieces = file.pieces(part.start, part.stop)
    while True:
        async with turn():
            piece = await run_in_threadpool(next, pieces, None)
        if piece is None:
            return
        yield piece
