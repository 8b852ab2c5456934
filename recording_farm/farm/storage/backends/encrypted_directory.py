"""The backend for a directory with encryption at rest."""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from recording_farm.encoder.atomic_file import atomic_file
from recording_farm.farm.storage.backend import Part, StorageError
from recording_farm.farm.storage.backends.directory import DirectoryBackend
from recording_farm.farm.storage.backends.directory_parts import Drafts
from recording_farm.farm.storage.backends.encrypted_file import EncryptedFile, encrypt, is_encrypted, sealed
from recording_farm.farm.storage.backends.encrypted_parts import EncryptedParts, finish, is_of_parts, send
from recording_farm.farm.storage.backends.stored_file import PlainFile, StoredFile
from recording_farm.farm.storage.parts import Data, SentPart


class EncryptedDirectoryBackend(DirectoryBackend):
    """A directory whose files are encrypted and authenticated with the farm's secret.

    Plain files, from before encryption was enabled, are served as they are. So this does not prove that a
    file comes from the farm: anybody with write access to the directory can add a plain one.
    """

    def __init__(self, root: Path, secret: bytes) -> None:
        """`root` is created with the first file; `secret` is the farm's secret key."""
        super().__init__(root)
        self._secret = secret

    def takes_links_from(self, directory: Path) -> bool:  # noqa: ARG002 - it writes other bytes
        """See `DirectoryBackend`: never."""
        return False

    def _put(self, source: Path, target: Path, key: str) -> None:
        with atomic_file(target) as draft:
            digest = encrypt(source, draft, self._secret, key)
            if self._digest(draft, key) != digest:
                raise StorageError("damaged", "the file was damaged in transit")

    def _packed(self, data: Data, key: str) -> bytes:
        return b"".join(sealed(BytesIO(data), self._secret, key))

    def _digest(self, draft: Path, key: str) -> bytes:
        digest = hashlib.sha256()
        with draft.open("rb", buffering=0) as file:
            written = EncryptedFile(file, self._secret, key)
            for piece in written.pieces(0, written.size):
                digest.update(piece)
        return digest.digest()

    def _stored(self, file: BinaryIO, key: str) -> StoredFile:
        if is_of_parts(file):
            return EncryptedParts(file, self._secret, key)
        return EncryptedFile(file, self._secret, key) if is_encrypted(file) else PlainFile(file)

    def _send(self, drafts: Drafts, key: str, part: Part, data: Data) -> dict[str, Any]:
        return send(drafts, self._secret, key, part, data)

    def _finish(self, drafts: Drafts, key: str, sent: Sequence[SentPart]) -> None:
        finish(drafts, self._secret, key, sent)
