"""Files encrypted at rest in chunks, for random access.

A file is a header (`MAGIC` and a random salt), followed by chunks of `CHUNK_BYTES` of content (the last one
is shorter), each encrypted with AES-256-GCM. HKDF-SHA256 derives the key from the farm's secret, the salt and
the file's key in the store, so one file cannot replace another. A chunk's nonce is its number and a flag for
the last one. This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015) with the nonces of the file format age:
it detects reordered, missing and truncated chunks.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from recording_farm.encoder.atomic_file import atomic_file
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.backends.disk import read_at
from recording_farm.farm.storage.backends.stored_file import PIECE_BYTES

MAGIC: Final = b"recording-farm 1"
"""Start of encrypted files, with the version of the format."""

CHUNK_BYTES: Final = 64 << 10

_SALT_BYTES: Final = 32
_HEADER_BYTES: Final = len(MAGIC) + _SALT_BYTES
_TAG_BYTES: Final = 16
_SEALED_BYTES: Final = CHUNK_BYTES + _TAG_BYTES
_CHUNKS_IN_PIECE: Final = PIECE_BYTES // CHUNK_BYTES
_PURPOSE: Final = b"recording-farm file at rest 1\n"


def is_encrypted(file: BinaryIO) -> bool:
    """Whether an open file was written by `encrypt`."""
    return os.pread(file.fileno(), len(MAGIC), 0) == MAGIC


def encrypt(source: Path, target: Path, secret: bytes, key: str) -> bytes:
    """Encrypt `source` to the new file `target` for `key`; returns the SHA-256 of `source`.

    Raises OSError.
    """
    digest = hashlib.sha256()
    with source.open("rb") as content, target.open("xb") as file:
        for data in sealed(content, secret, key, digest.update):
            file.write(data)
    return digest.digest()


def sealed(
    content: BinaryIO, secret: bytes, key: str, look: Callable[[bytes], None] = lambda _: None
) -> Iterator[bytes]:
    """A content as the bytes of an encrypted file; `look` sees each chunk before it is encrypted."""
    salt = os.urandom(_SALT_BYTES)
    cipher = _cipher(secret, salt, key)
    yield MAGIC + salt
    for number, (chunk, last) in enumerate(_chunks(content)):
        look(chunk)
        yield cipher.encrypt(_nonce(number, last), chunk, None)


def content_size(file_size: int) -> int:
    """The size of the content of an encrypted file.

    Raises ValueError for an impossible size.
    """
    sealed = file_size - _HEADER_BYTES
    chunks = -(-sealed // _SEALED_BYTES)
    size = sealed - chunks * _TAG_BYTES
    # Empty content is one empty chunk; after a full chunk there is never an empty one.
    if chunks < 1 or size < 0 or (chunks > 1 and size <= (chunks - 1) * CHUNK_BYTES):
        raise ValueError(f"no encrypted file has {file_size} bytes")
    return size


class EncryptedFile:
    """An encrypted file as a `StoredFile`."""

    def __init__(self, file: BinaryIO, secret: bytes, key: str) -> None:
        """`file` is opened unbuffered; the caller closes it if this fails.

        Decrypts the last chunk, which authenticates the size. Raises StorageError for a file that is damaged,
        truncated, or encrypted for another key or with another secret.
        """
        stat = os.fstat(file.fileno())
        self._file = file
        self._key = key
        try:
            self.size = content_size(stat.st_size)
        except ValueError:
            raise self._damaged() from None
        self.modified_ns = stat.st_mtime_ns
        self._last = max(self.size - 1, 0) // CHUNK_BYTES
        self._cipher = _cipher(secret, read_at(file, len(MAGIC), _SALT_BYTES), key)
        self._decrypted(self._last, self._last + 1)

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """See `StoredFile`. Reads only the chunks of the range."""
        stop = -(-end // CHUNK_BYTES)
        while start < end:
            first = start // CHUNK_BYTES
            begin = first * CHUNK_BYTES
            chunks = self._decrypted(first, min(first + _CHUNKS_IN_PIECE, stop))
            piece = chunks[start - begin : end - begin]
            yield piece
            start += len(piece)

    def copy_to(self, target: Path) -> None:
        """See `StoredFile`."""
        with atomic_file(target) as draft, draft.open("xb") as file:
            for piece in self.pieces(0, self.size):
                file.write(piece)

    def close(self) -> None:
        """See `StoredFile`."""
        self._file.close()

    def _decrypted(self, first: int, stop: int) -> bytes:
        """The content of the chunks from number `first` up to `stop`."""
        begin = first * _SEALED_BYTES
        end = min(stop * _SEALED_BYTES, self.size + (self._last + 1) * _TAG_BYTES)
        sealed = memoryview(read_at(self._file, _HEADER_BYTES + begin, end - begin))
        try:
            return b"".join(
                self._cipher.decrypt(
                    _nonce(number, number == self._last),
                    sealed[index * _SEALED_BYTES : (index + 1) * _SEALED_BYTES],
                    None,
                )
                for index, number in enumerate(range(first, stop))
            )
        except InvalidTag:
            raise self._damaged() from None

    def _damaged(self) -> StorageError:
        return StorageError(
            "damaged",
            f"{self._key} is damaged, belongs elsewhere or was encrypted with another secret; all processes "
            "of a farm need the same FARM_SECRET_KEY or data directory",
            lasting=True,
        )


def _cipher(secret: bytes, salt: bytes, key: str) -> AESGCM:
    file_key = HKDF(algorithm=SHA256(), length=32, salt=salt, info=_PURPOSE + key.encode()).derive(secret)
    return AESGCM(file_key)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _chunks(content: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """The chunks of a content, and whether each is the last one; empty content has one empty chunk."""
    chunk = content.read(CHUNK_BYTES)
    while following := content.read(CHUNK_BYTES):
        yield chunk, False
        chunk = following
    yield chunk, True
