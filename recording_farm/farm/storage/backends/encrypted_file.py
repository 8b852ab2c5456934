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
from contextlib import contextmanager
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

SALT_BYTES: Final = 32
_HEADER_BYTES: Final = len(MAGIC) + SALT_BYTES
TAG_BYTES: Final = 16
_SEALED_BYTES: Final = CHUNK_BYTES + TAG_BYTES
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
    salt = os.urandom(SALT_BYTES)
    yield MAGIC + salt
    yield from sealed_chunks(content, cipher_for(_PURPOSE, secret, salt, key), look)


def content_size(file_size: int) -> int:
    """The size of the content of an encrypted file.

    Raises ValueError for an impossible size.
    """
    sealed = file_size - _HEADER_BYTES
    chunks = -(-sealed // _SEALED_BYTES)
    size = sealed - chunks * TAG_BYTES
    # Empty content is one empty chunk; after a full chunk there is never an empty one.
    if chunks < 1 or size < 0 or (chunks > 1 and size <= (chunks - 1) * CHUNK_BYTES):
        raise ValueError(f"no encrypted file has {file_size} bytes")
    return size


class Chunks:
    """A content in chunks within an open file. Its methods raise InvalidTag for changed data."""

    def __init__(self, file: BinaryIO, position: int, size: int, cipher: AESGCM) -> None:
        """The chunks of a content of `size` bytes begin at `position`."""
        self._file = file
        self._position = position
        self._size = size
        self._last = max(size - 1, 0) // CHUNK_BYTES
        self._cipher = cipher

    def check_end(self) -> None:
        """Decrypt the last chunk, which authenticates the size."""
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

    def _decrypted(self, first: int, stop: int) -> bytes:
        """The content of the chunks from number `first` up to `stop`."""
        begin = first * _SEALED_BYTES
        end = min(stop * _SEALED_BYTES, self._size + (self._last + 1) * TAG_BYTES)
        sealed = memoryview(read_at(self._file, self._position + begin, end - begin))
        return b"".join(
            self._cipher.decrypt(
                _nonce(number, number == self._last),
                sealed[index * _SEALED_BYTES : (index + 1) * _SEALED_BYTES],
                None,
            )
            for index, number in enumerate(range(first, stop))
        )


class EncryptedFile:
    """An encrypted file as a `StoredFile`."""

    def __init__(self, file: BinaryIO, secret: bytes, key: str) -> None:
        """`file` is opened unbuffered; the caller closes it if this fails.

        Raises StorageError for a file that is damaged, truncated, or encrypted for another key or with
        another secret.
        """
        stat = os.fstat(file.fileno())
        self._file = file
        self._key = key
        self.modified_ns = stat.st_mtime_ns
        with explained_damage(key):
            self.size = content_size(stat.st_size)
            cipher = cipher_for(_PURPOSE, secret, read_at(file, len(MAGIC), SALT_BYTES), key)
            self._chunks = Chunks(file, _HEADER_BYTES, self.size, cipher)
            self._chunks.check_end()

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """See `StoredFile`. Reads only the chunks of the range."""
        with explained_damage(self._key):
            yield from self._chunks.pieces(start, end)

    def copy_to(self, target: Path) -> None:
        """See `StoredFile`."""
        copy_pieces(self.pieces(0, self.size), target)

    def close(self) -> None:
        """See `StoredFile`."""
        self._file.close()


def copy_pieces(pieces: Iterator[bytes], target: Path) -> None:
    """Write a new file atomically. Raises OSError."""
    with atomic_file(target) as draft, draft.open("xb") as file:
        for piece in pieces:
            file.write(piece)


@contextmanager
def explained_damage(key: str) -> Iterator[None]:
    """Raise StorageError for data that is not what was encrypted."""
    try:
        yield
    except (InvalidTag, ValueError):
        raise StorageError(
            "damaged",
            f"{key} is damaged, belongs elsewhere or was encrypted with another secret; all processes "
            "of a farm need the same FARM_SECRET_KEY or data directory",
            lasting=True,
        ) from None


def sealed_chunks(content: BinaryIO, cipher: AESGCM, look: Callable[[bytes], None]) -> Iterator[bytes]:
    """The encrypted chunks of a content; `look` sees each before it is encrypted."""
    for number, (chunk, last) in enumerate(_chunks(content)):
        look(chunk)
        yield cipher.encrypt(_nonce(number, last), chunk, None)


def sealed_size(size: int) -> int:
    """The size of the encrypted chunks of a content of `size` bytes."""
    return size + max(1, -(-size // CHUNK_BYTES)) * TAG_BYTES


def cipher_for(purpose: bytes, secret: bytes, salt: bytes, key: str) -> AESGCM:
    """The cipher of a salt, for one purpose and one key in the store."""
    derived = HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose + key.encode()).derive(secret)
    return AESGCM(derived)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _chunks(content: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """The chunks of a content, and whether each is the last one; empty content has one empty chunk."""
    chunk = content.read(CHUNK_BYTES)
    while following := content.read(CHUNK_BYTES):
        yield chunk, False
        chunk = following
    yield chunk, True
