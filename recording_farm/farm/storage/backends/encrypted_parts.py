"""Encrypted files that came in parts: version 2 of the format.

A file is a header (`MAGIC`, and where the table is), followed by parts and a table in any order, possibly
with bytes between them that belong to none. Each part is chunks as in version 1, with a key of its own:
HKDF derives it from the farm's secret, the file's key in the store, and a salt that is random each time
when a part is sent. So no nonce is used twice with a key, whatever is sent again. The table has position,
size and salt of each part in their order, encrypted with a key of a random salt too. It authenticates which
parts there are, how long they are, and what comes after what. Nothing is ever overwritten but the header,
which is written last.
"""

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from recording_farm.encoder.atomic_file import put_in_place
from recording_farm.farm.storage.backend import Part
from recording_farm.farm.storage.backends.directory_parts import Drafts
from recording_farm.farm.storage.backends.disk import read_at, write_at
from recording_farm.farm.storage.backends.encrypted_file import (
    SALT_BYTES,
    TAG_BYTES,
    Chunks,
    cipher_for,
    copy_pieces,
    explained_damage,
    sealed_chunks,
    sealed_size,
)
from recording_farm.farm.storage.backends.etags import md5
from recording_farm.farm.storage.parts import Data, SentPart, upload_gone

MAGIC: Final = b"recording-farm 2"
"""Start of these files, with the version of the format."""

_PLACE: Final = struct.Struct(">QQ")
"""Position and size of the table, in the header."""
_ENTRY: Final = struct.Struct(f">QQ{SALT_BYTES}s")
"""Position, size and salt of a part, in the table."""
_HEADER_BYTES: Final = len(MAGIC) + _PLACE.size
_MAX_TABLE: Final = 8 << 20
"""Size of a table of more parts than `DirectoryBackend` allows."""
_NONCE: Final = bytes(12)
"""The table is all that its key encrypts."""
_OF_PART: Final = b"recording-farm part at rest 2\n"
_OF_TABLE: Final = b"recording-farm table at rest 2\n"


class _Entry(NamedTuple):
    position: int
    size: int
    salt: bytes


def is_of_parts(file: BinaryIO) -> bool:
    """Whether an open file is in this format."""
    return os.pread(file.fileno(), len(MAGIC), 0) == MAGIC


def send(drafts: Drafts, secret: bytes, key: str, part: Part, data: Data) -> dict[str, Any]:
    """Append a part to the draft; returns its receipt. Raises StorageError, OSError."""
    salt = os.urandom(SALT_BYTES)
    cipher = cipher_for(_OF_PART, secret, salt, key)
    sealed = b"".join(sealed_chunks(BytesIO(data), cipher, lambda _: None))
    with drafts.locked() as body:
        position = max(os.fstat(body).st_size, _HEADER_BYTES)
        try:
            write_at(body, position, sealed)
        except BaseException:
            os.ftruncate(body, position)
            raise
    return {"md5": md5(data).hex(), "position": position, "size": part.size, "salt": salt.hex()}


def finish(drafts: Drafts, secret: bytes, key: str, sent: Sequence[SentPart]) -> None:
    """Make the file of parts in their order. Raises StorageError, OSError."""
    entries = [_entry_of(each) for each in sent]
    salt = os.urandom(SALT_BYTES)
    cipher = cipher_for(_OF_TABLE, secret, salt, key)
    table = salt + cipher.encrypt(_NONCE, b"".join(_ENTRY.pack(*entry) for entry in entries), None)
    with drafts.locked() as body:
        size = os.fstat(body).st_size
        if any(entry.position + sealed_size(entry.size) > size for entry in entries):
            raise upload_gone()
        write_at(body, size, table)
        write_at(body, 0, MAGIC + _PLACE.pack(size, len(table)))
        put_in_place(drafts.body, drafts.target)


class EncryptedParts:
    """An encrypted file of parts as a `StoredFile`."""

    def __init__(self, file: BinaryIO, secret: bytes, key: str) -> None:
        """`file` is opened unbuffered; the caller closes it if this fails.

        Decrypts the table. Raises StorageError for a file that is damaged, truncated, or encrypted for
        another key or with another secret.
        """
        stat = os.fstat(file.fileno())
        self._file = file
        self._key = key
        self._secret = secret
        self.modified_ns = stat.st_mtime_ns
        with explained_damage(key):
            self._entries = [entry for entry in self._table(stat.st_size) if entry.size]
        *self._begins, self.size = accumulate((entry.size for entry in self._entries), initial=0)
        self._chunks_of = cache(self._open)

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """See `StoredFile`. Reads only the chunks of the range."""
        while start < end:
            index = bisect_right(self._begins, start) - 1
            begin = self._begins[index]
            stop = min(end, begin + self._entries[index].size)
            with explained_damage(self._key):
                yield from self._chunks_of(index).pieces(start - begin, stop - begin)
            start = stop

    def copy_to(self, target: Path) -> None:
        """See `StoredFile`."""
        copy_pieces(self.pieces(0, self.size), target)

    def close(self) -> None:
        """See `StoredFile`."""
        self._file.close()

    def _table(self, file_size: int) -> list[_Entry]:
        """The parts in their order. Raises InvalidTag, ValueError."""
        position, size = _PLACE.unpack(read_at(self._file, len(MAGIC), _PLACE.size))
        if not SALT_BYTES + TAG_BYTES <= size <= _MAX_TABLE or position + size > file_size:
            raise ValueError("there is no table")
        table = read_at(self._file, position, size)
        cipher = cipher_for(_OF_TABLE, self._secret, table[:SALT_BYTES], self._key)
        entries = [
            _Entry(*entry) for entry in _ENTRY.iter_unpack(cipher.decrypt(_NONCE, table[SALT_BYTES:], None))
        ]
        if any(entry.position + sealed_size(entry.size) > file_size for entry in entries):
            raise ValueError("the file was truncated")
        return entries

    def _open(self, index: int) -> Chunks:
        entry = self._entries[index]
        cipher = cipher_for(_OF_PART, self._secret, entry.salt, self._key)
        return Chunks(self._file, entry.position, entry.size, cipher)


def _entry_of(sent: SentPart) -> _Entry:
    receipt = sent.receipt
    if receipt["size"] != sent.part.size:
        raise ValueError(f"part {sent.part.number} has another size than its receipt")
    return _Entry(receipt["position"], sent.part.size, bytes.fromhex(receipt["salt"]))
