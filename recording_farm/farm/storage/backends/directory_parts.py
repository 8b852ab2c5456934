"""Uploads in parts to a directory: drafts beside the target that become one file.

All parts but the first are written into the draft `body`, each at its offset; the first one has a draft of
its own, and gets its room in front of the body at the end. A body is locked while it is written, also against
other machines if the file system can do that. `marks` has the MD5 of what was last written for each part,
noted before it is written: so a part that another process has overwritten since its receipt is noticed.
"""

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from recording_farm.encoder.atomic_file import draft_of, put_in_place
from recording_farm.encoder.cut.put_in_front import insert_in_front
from recording_farm.farm.storage.backend import Part
from recording_farm.farm.storage.backends.disk import copy_range, read_at, write_at
from recording_farm.farm.storage.backends.stored_file import StoredFile
from recording_farm.farm.storage.parts import Data, SentPart, no_parts, size_of, upload_gone

_TOKEN: Final = re.compile(r"[0-9a-f]{16}")
_MARKS_NAME: Final = re.compile(r"\.[0-9a-f]{16}-(?P<token>[0-9a-f]{16})-marks-(?P<name>.+)\.part")
_MARK_BYTES: Final = 16
_NO_LOCKS: Final = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass(frozen=True)
class Drafts:
    """The files of an upload. Its state is the `token`; methods raise OSError too."""

    target: Path
    token: str

    @classmethod
    def of(cls, target: Path, begun: dict[str, Any]) -> "Drafts":
        """The files of an upload that was begun. Raises ValueError for an invalid state."""
        token = str(begun["token"])
        if not _TOKEN.fullmatch(token):
            raise ValueError("an upload to a directory has a token of 16 hexadecimal digits")
        return cls(target, token)

    @classmethod
    def create(cls, target: Path) -> "Drafts":
        """Begin an upload; the directory exists."""
        drafts = cls(target, f"{int(time.time()):08x}{token_hex(4)}")
        for path in (drafts.marks, drafts.body):
            path.open("xb").close()
        with drafts.locked():
            return drafts

    @property
    def begun(self) -> dict[str, Any]:
        """The state as JSON."""
        return {"token": self.token}

    @property
    def began(self) -> datetime:
        """When the upload began."""
        return datetime.fromtimestamp(int(self.token[:8], 16), UTC)

    @property
    def body(self) -> Path:
        """All parts but the first."""
        return self.draft("body")

    @property
    def first(self) -> Path:
        """The first part."""
        return self.draft("first")

    @property
    def marks(self) -> Path:
        """The MD5 of what was last written for each part, by its number."""
        return self.draft("marks")

    @property
    def end(self) -> Path:
        """The file while it is made of the parts."""
        return self.draft("end")

    def draft(self, kind: str) -> Path:
        """A file of the upload."""
        return draft_of(self.target, f"{self.token}-{kind}-{self.target.name}")

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Open the body for this process alone. Raises StorageError when it is gone."""
        try:
            descriptor = os.open(self.body, os.O_RDWR)
        except FileNotFoundError:
            raise upload_gone() from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    raise no_parts("its file system has no locks") from error
                raise
            if not self._is_body(descriptor):
                raise upload_gone()  # another process finished it while this one waited
            yield descriptor
        finally:
            os.close(descriptor)

    def _is_body(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.body.stat())
        except FileNotFoundError:
            return False

    def delete(self) -> None:
        """Drop the upload."""
        for path in (self.body, self.first, self.end, self.marks):
            path.unlink(missing_ok=True)


def send(drafts: Drafts, part: Part, data: Data) -> dict[str, Any]:
    """Write a part; returns its receipt. Raises StorageError, OSError."""
    digest = hashlib.md5(data, usedforsecurity=False)
    with drafts.locked() as body:
        with _opened(drafts.marks, os.O_RDWR) as marks:
            write_at(marks, part.number * _MARK_BYTES, digest.digest())
        if part.number == 1:
            with _opened(drafts.first, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as first:
                write_at(first, 0, data)
        else:
            write_at(body, part.offset, data)
    return {"md5": digest.hexdigest()}


def finish(drafts: Drafts, sent: Sequence[SentPart]) -> None:
    """Make the file of parts in their order. Raises StorageError, OSError."""
    has_first = sent[0].part.number == 1
    first_size = sent[0].part.size if has_first else 0
    begin, end = _range_of(sent[1:] if has_first else sent)
    with drafts.locked() as body:
        with _opened(drafts.marks, os.O_RDONLY) as marks:
            for each in sent:
                _check(drafts, each, marks)
        room = first_size - begin
        if not (end and room >= 0 and _move(drafts, body, end, room, first_size)):
            _copy(drafts, body, begin, end, first_size)


def adopt(drafts: Drafts) -> Drafts:
    """Rename the files of an upload, so that another process can no longer write into them.

    Another call, or one that was interrupted, may have renamed some of them before: all drafts of a target
    that began in the same second are the same upload. Raises StorageError when there is no body, OSError.
    """
    adopted = Drafts(drafts.target, f"{drafts.token[:8]}{token_hex(4)}")
    body = _renamed(drafts, "body")
    if body is None:
        raise upload_gone()
    with Drafts(drafts.target, body).locked():
        for kind in ("first", "marks", "body"):
            token = _renamed(drafts, kind)
            if token is not None:
                Drafts(drafts.target, token).draft(kind).rename(adopted.draft(kind))
    return adopted


def _renamed(drafts: Drafts, kind: str) -> str | None:
    """The token that a file of an upload has now; None if there is no such file."""
    path = drafts.draft(kind)
    any_token = path.name.replace(drafts.token, f"{drafts.token[:8]}????????")
    found = next(iter(sorted(path.parent.glob(any_token))), None)
    if found is None:
        return None
    before = path.name.index(drafts.token)
    return found.name[before : before + len(drafts.token)]


def unfinished(directory: Path) -> Iterator[Drafts]:
    """The uploads to files of a directory."""
    for path in directory.iterdir():
        if name := _MARKS_NAME.fullmatch(path.name):
            yield Drafts(path.with_name(name["name"]), name["token"])


def has_parts(file: StoredFile, sent: Sequence[SentPart]) -> bool:
    """Whether a stored file has exactly these parts, by their MD5s."""
    position = 0
    if file.size != size_of(sent):
        return False
    for each in sent:
        digest = hashlib.md5(usedforsecurity=False)
        for piece in file.pieces(position, position + each.part.size):
            digest.update(piece)
        if digest.hexdigest() != each.receipt["md5"]:
            return False
        position += each.part.size
    return True


def _range_of(rest: Sequence[SentPart]) -> tuple[int, int]:
    """Where the body begins and ends. Raises ValueError when there are gaps between its parts."""
    if not rest:
        return 0, 0
    begin = end = rest[0].part.offset
    for each in rest:
        if each.part.offset != end:
            raise ValueError(f"part {each.part.number} does not begin where the one before ends")
        end += each.part.size
    return begin, end


def _check(drafts: Drafts, sent: SentPart, marks: int) -> None:
    """Raise StorageError when the drafts do not have this part. Reads it only if that is in doubt."""
    part, md5 = sent.part, sent.receipt["md5"]
    path, offset = (drafts.first, 0) if part.number == 1 else (drafts.body, part.offset)
    if not path.exists() or path.stat().st_size < offset + part.size:
        raise upload_gone()
    mark = os.pread(marks, _MARK_BYTES, part.number * _MARK_BYTES)
    if mark.hex() != md5 and _md5_of(path, offset, part.size) != md5:
        raise upload_gone()


def _move(drafts: Drafts, body: int, end: int, room: int, first_size: int) -> bool:
    """Make the body the target, with the first part in its room in front; False if it has to be copied."""
    # From here on the drafts are no longer an upload: a crash leaves a file that nobody can finish.
    draft = drafts.end
    drafts.body.rename(draft)
    try:
        os.ftruncate(body, end)
        if room and not insert_in_front(body, room):
            draft.rename(drafts.body)
            return False
        _append_first(drafts, body, first_size)
        put_in_place(draft, drafts.target)
    finally:
        draft.unlink(missing_ok=True)
    return True


def _copy(drafts: Drafts, body: int, begin: int, end: int, first_size: int) -> None:
    draft = drafts.end
    try:
        with _opened(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
            _append_first(drafts, file, first_size)
            copy_range(body, begin, file, end - begin)
        put_in_place(draft, drafts.target)
    finally:
        draft.unlink(missing_ok=True)


def _append_first(drafts: Drafts, file: int, size: int) -> None:
    """Write the first part at the position of a file that was just opened: its beginning."""
    if size:
        with _opened(drafts.first, os.O_RDONLY) as first:
            copy_range(first, 0, file, size)


def _md5_of(path: Path, offset: int, size: int) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.md5(read_at(file, offset, size), usedforsecurity=False).hexdigest()


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Open a draft. Raises StorageError when it is gone."""
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileNotFoundError:
        raise upload_gone() from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
