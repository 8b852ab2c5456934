"""Uploads in parts to an SSH server: a file for each part, which the server itself joins at the end.

The parts are in a hidden directory beside the target. The extension `copy-data` (OpenSSH 9.0 and others)
copies between files without the line. Each part is read back once it was sent. Functions raise the library's
errors.
"""

import hashlib
import posixpath
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from secrets import token_hex
from typing import Any, Final

import paramiko
from paramiko.message import Message
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_EXTENDED,
    CMD_HANDLE,
    CMD_OPEN,
    SFTP_FLAG_READ,
    SFTP_NO_SUCH_FILE,
    SFTP_OK,
    int64,
)

from recording_farm.farm.storage.backend import Part, StorageError
from recording_farm.farm.storage.parts import PartRules, SentPart, size_of, upload_gone

COPY_DATA: Final = "copy-data"
RULES: Final = PartRules()

_TOKEN: Final = re.compile(r"[0-9a-f]{16}")
_JOINED_AT_ONCE: Final = 16
"""So many parts are joined with each round trip; servers limit the number of open files."""


@dataclass(frozen=True)
class PartFiles:
    """The files of an upload, whose state is the `token`."""

    target: str
    token: str

    @classmethod
    def create(cls, target: str) -> "PartFiles":
        """A new upload."""
        return cls(target, token_hex(8))

    @classmethod
    def of(cls, target: str, begun: dict[str, Any]) -> "PartFiles":
        """The files of an upload that was begun. Raises ValueError for an invalid state."""
        token = str(begun["token"])
        if not _TOKEN.fullmatch(token):
            raise ValueError("an upload to an SSH server has a token of 16 hexadecimal digits")
        return cls(target, token)

    @property
    def directory(self) -> str:
        """The directory of the parts."""
        return self._hidden("parts")

    @property
    def draft(self) -> str:
        """The file that the parts are joined into."""
        return self._hidden("part")

    def part(self, number: int) -> str:
        """The file of a part."""
        return posixpath.join(self.directory, str(number))

    def _hidden(self, kind: str) -> str:
        directory, name = posixpath.split(self.target)
        return posixpath.join(directory, f".{name}.{self.token}.{kind}")


def begin(sftp: paramiko.SFTPClient, files: PartFiles) -> None:
    """Make the draft, which must be readable, and the directory of the parts."""
    sftp.open(files.draft, "w+b").close()
    try:
        sftp.mkdir(files.directory)
    except OSError:
        sftp.remove(files.draft)
        raise


def is_there(sftp: paramiko.SFTPClient, files: PartFiles) -> bool:
    """Whether an upload has not ended."""
    try:
        sftp.stat(files.directory)
    except FileNotFoundError:
        return False
    return True


def join(sftp: paramiko.SFTPClient, files: PartFiles, sent: Sequence[SentPart]) -> None:
    """Make the draft of the parts in their order. Raises StorageError when one is missing or too short."""
    offsets = list(accumulate((each.part.size for each in sent), initial=0))
    with sftp.open(files.draft, "wb") as draft:
        for begin in range(0, len(sent), _JOINED_AT_ONCE):
            batch = [each.part for each in sent[begin : begin + _JOINED_AT_ONCE]]
            _copy(sftp, files, draft.handle, batch, offsets[begin:])
    if sftp.stat(files.draft).st_size != size_of(sent):
        raise upload_gone()


def abort(sftp: paramiko.SFTPClient, files: PartFiles) -> None:
    """Delete the draft, and the directory of the parts with all in it; missing ones are no error."""
    with suppress(FileNotFoundError):
        for name in sftp.listdir(files.directory):
            with suppress(FileNotFoundError):
                sftp.remove(posixpath.join(files.directory, name))
        sftp.rmdir(files.directory)
    with suppress(FileNotFoundError):
        sftp.remove(files.draft)


def receipt_of(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """The receipt of a part."""
    return {"md5": hashlib.md5(data, usedforsecurity=False).hexdigest()}


def extensions_of(answer: bytes) -> frozenset[str]:
    """The extensions that a server names as it tells its version."""
    message = Message(answer)
    message.get_int()
    names = set()
    while message.get_remainder():
        names.add(message.get_text())
        message.get_binary()
    return frozenset(names)


def _copy(
    sftp: paramiko.SFTPClient, files: PartFiles, draft: Any, parts: list[Part], offsets: list[int]
) -> None:
    """Append some parts to the draft, a handle, at these offsets; in three round trips."""
    opened = _ask(
        sftp,
        [(CMD_OPEN, files.part(part.number), SFTP_FLAG_READ, paramiko.SFTPAttributes()) for part in parts],
    )
    handles = [message.get_binary() for kind, message in opened if kind == CMD_HANDLE]
    try:
        for kind, message in opened:
            if kind != CMD_HANDLE:
                _check(message)
        requests = [
            (CMD_EXTENDED, COPY_DATA, handle, int64(0), int64(part.size), draft, int64(offset))
            for handle, part, offset in zip(handles, parts, offsets, strict=False)
            if part.size
        ]
        for _, message in _ask(sftp, requests):
            _check(message)
    finally:
        _ask(sftp, [(CMD_CLOSE, handle) for handle in handles])


class _Answers:
    """Collects the answers to requests that were sent together."""

    def __init__(self) -> None:
        self.by_number: dict[int, tuple[int, Message]] = {}

    def _async_response(self, kind: int, message: Message, number: int) -> None:
        self.by_number[number] = kind, message


def _ask(sftp: paramiko.SFTPClient, requests: Sequence[tuple[Any, ...]]) -> list[tuple[int, Message]]:
    """Send requests at once; returns their answers."""
    library: Any = sftp
    answers = _Answers()
    numbers = [library._async_request(answers, *request) for request in requests]
    while len(answers.by_number) < len(numbers):
        library._read_response()
    return [answers.by_number[number] for number in numbers]


def _check(message: Message) -> None:
    """Raise StorageError when a status says that a request has failed."""
    code, text = message.get_int(), message.get_text()
    if code == SFTP_NO_SUCH_FILE:
        raise upload_gone()
    if code != SFTP_OK:
        raise StorageError("failed", f"the server cannot join the parts: {text}")
