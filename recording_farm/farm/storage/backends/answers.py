"""Limits what a storage answers, in bytes and time, before a library reads it.

The libraries of S3, Azure and Google read an answer into memory as a whole, however long it is, and parse it.
All three use urllib3, whose connections create an `http.client.HTTPResponse` for each answer; here it is one
that counts what it reads from the socket. So a limit holds for status, header, chunks and body alike, also
for requests that a library makes on its own: retries, redirects, tokens.
"""

import io
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from http.client import HTTPResponse
from typing import Any, Final, TypeVar

from recording_farm.farm.storage.backend import StorageError

Item = TypeVar("Item")

MAX_ANSWER: Final = 2 << 20
"""Bytes of an answer that is no file; the longest that S3 and Google send is a list of 1000 parts."""

MAX_COMPRESSED: Final = 64 << 10
"""Bytes of a compressed answer: gzip makes at most 1032 times as many of them."""

ANSWER_SECONDS: Final = 300.0
"""Time for an answer. S3 takes minutes to complete a large upload, and sends spaces meanwhile."""

_COMPRESSED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_PLAIN: Final = frozenset({"", "identity", "aws-chunked"})
_REDIRECTS: Final = frozenset({302, 303, 307, 308})
_FILE: Final = frozenset({200, 206})


class AnswerError(BaseException):
    """An answer exceeds a limit; no Exception, because libraries retry after these."""

    def __init__(self, reason: str, message: str) -> None:
        """See StorageError."""
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class _Limits:
    most: int
    seconds: float
    download: bool
    redirects: bool


_limits: ContextVar[_Limits | None] = ContextVar("answer_limits", default=None)


@contextmanager
def bounded_answers(
    most: int = MAX_ANSWER, *, download: bool = False, redirects: bool = True
) -> Iterator[None]:
    """Limit each answer of urllib3 in this context to `most` bytes; raises StorageError for a longer one.

    With `download`, a file may be as long as its header says. Without `redirects`, they are errors. Threads
    have their own contexts, see `farm.storage.backends.threads`.
    """
    _install()
    token = _limits.set(_Limits(most, ANSWER_SECONDS, download, redirects))
    try:
        yield
    except AnswerError as error:
        raise StorageError(error.reason, error.message) from None
    finally:
        _limits.reset(token)


def each_within(items: Iterable[Item], limits: Callable[[], AbstractContextManager[None]]) -> Iterator[Item]:
    """Take each item of a list with pages within `limits`, but not what is done with the item.

    A generator that held them while it is suspended would leave them to its caller.
    """
    iterator = iter(items)
    while True:
        with limits():
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def too_large(most: int) -> AnswerError:
    """The error for an answer that has more than `most` bytes."""
    size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
    text = f"the server's answer is larger than {size}; is the endpoint a storage of this kind?"
    return AnswerError("bad_answer", text)


@cache
def _install() -> None:
    from urllib3.connection import HTTPConnection  # only the backends that use it need it

    HTTPConnection.response_class = _BoundedResponse


class _BoundedResponse(HTTPResponse):
    """An answer that is read within the limits of the context."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._limits = _limits.get()
        if self._limits is not None:
            self._counted = _Counted(self.fp.detach(), self._limits)
            self.fp = io.BufferedReader(self._counted)

    def begin(self) -> None:
        """Read status and header; refuse the answer if they say that it is too long."""
        super().begin()
        limits = self._limits
        if limits is None:
            return
        if not limits.redirects and self.status in _REDIRECTS:
            text = f"the server redirects requests ({self.status}); set the endpoint to where it leads"
            raise AnswerError("redirected", text)
        encoding = (self.getheader("content-encoding") or "").strip().lower()
        if encoding in _COMPRESSED:
            self._counted.limit_to(MAX_COMPRESSED)
        elif encoding not in _PLAIN:
            raise AnswerError("bad_answer", "the server's answer is compressed, unasked")
        elif limits.download and self.status in _FILE and self.length is not None:
            self._counted.allow_file(self.length)
        # The library would reserve as much memory as this.
        if self.length is not None and self.length > self._counted.most:
            raise too_large(self._counted.most)


class _Counted(io.RawIOBase):
    """The bytes of a socket, up to a limit."""

    def __init__(self, raw: io.RawIOBase, limits: _Limits) -> None:
        self._raw = raw
        self._deadline: float | None = time.monotonic() + limits.seconds
        self._seconds = limits.seconds
        self.most = limits.most
        self._read = 0

    def limit_to(self, most: int) -> None:
        """Lower the limit."""
        self.most = min(self.most, most)

    def allow_file(self, size: int) -> None:
        """Allow a file of `size` bytes, which may take long."""
        self.most += size
        self._deadline = None

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read some bytes, within the time-out of the socket."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            text = f"the server's answer took longer than {self._seconds:g} s"
            raise AnswerError("timed_out", text)
        count: int | None = self._raw.readinto(buffer)
        self._read += count or 0
        if self._read > self.most:
            raise too_large(self.most)
        return count

    def close(self) -> None:
        """Close the socket's file."""
        self._raw.close()
        super().close()
