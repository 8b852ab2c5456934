"""Evidence as a zip, made in bounded memory and without details of the machine.

The zip is for the client, so paths and the kernel's command line are removed from its texts.
"""

import io
import os
import re
import time
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from recording_farm.farm.evidence.collect import SCREENSHOT, is_evidence

if TYPE_CHECKING:  # Python has it from 3.12 on
    from typing_extensions import Buffer

Moment = tuple[int, int, int, int, int, int]
"""Year, month, day, hour, minute, second."""

_PIECE: Final = 1 << 16
_MAX_BYTES: Final = 64 << 20
"""Limit of a file, below the 2 GiB from which a zip needs another format."""

_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can store."""

_DIRECTORIES: Final = re.compile(rb"(?<![\w./-])/(?:[\w.+@~-]+/)+")
_OF_THE_MACHINE: Final = re.compile(rb"(Current Operating System|Kernel command line):.*")
"""Lines of the X server's log."""


class Opened(NamedTuple):
    """An open file at the position to read from, the number of bytes to read, and its modification time."""

    file: IO[bytes]
    size: int
    changed: Moment


@dataclass(frozen=True)
class Entry:
    """A file for the zip, under a name chosen by the farm.

    `open` raises OSError. Binary files, and files that were cleaned before, are `verbatim`.
    """

    name: str
    open: Callable[[], Opened]
    verbatim: bool = False


def entry_of_file(name: str, path: Path, most_bytes: int = _MAX_BYTES) -> Entry:
    """The end of a file that another process may be writing, as of when it is opened."""

    def opened() -> Opened:
        file = path.open("rb")
        about = os.fstat(file.fileno())
        size = min(about.st_size, most_bytes)
        file.seek(about.st_size - size)
        return Opened(file, size, time.gmtime(about.st_mtime)[:6])

    return Entry(name, opened, verbatim=path.name == SCREENSHOT)


def entry_of_text(name: str, text: str) -> Entry:
    """A text of the farm's own."""
    content = text.encode()
    return Entry(name, lambda: Opened(io.BytesIO(content), len(content), time.gmtime()[:6]))


def entries_of_zip(file: IO[bytes], below: str = "") -> list[Entry]:
    """The evidence in a zip made by `zip_pieces`, in the directory `below`; other files are left out.

    Raises zipfile.BadZipFile, OSError.
    """
    archive = zipfile.ZipFile(file)

    def entry(about: zipfile.ZipInfo) -> Entry:
        return Entry(
            f"{below}/{about.filename}" if below else about.filename,
            lambda: Opened(archive.open(about), min(about.file_size, _MAX_BYTES), about.date_time),
            verbatim=True,
        )

    found = {about.filename: about for about in archive.infolist() if is_evidence(about.filename)}
    return [entry(about) for about in found.values()]


def zip_pieces(entries: Iterable[Entry]) -> Generator[bytes]:
    """A zip in pieces, without paths of the machine in its texts; in bounded memory.

    A file that was deleted meanwhile is left out.
    """
    made = _Buffer()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            try:
                file, size, changed = entry.open()
            except OSError:  # deleted meanwhile
                continue
            with file:
                about = zipfile.ZipInfo(entry.name, max(_EARLIEST, changed))
                about.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(about, "w") as output:
                    for piece in _pieces_of(file, size, verbatim=entry.verbatim):
                        output.write(piece)
                        if made.size >= _PIECE:
                            yield made.taken()
    yield made.taken()


class _Buffer(io.RawIOBase):
    """Keeps what was written until it is taken."""

    def __init__(self) -> None:
        self._kept = bytearray()

    @property
    def size(self) -> int:
        return len(self._kept)

    def writable(self) -> bool:
        return True

    def write(self, piece: "Buffer") -> int:
        before = len(self._kept)
        self._kept += piece
        return len(self._kept) - before

    def taken(self) -> bytes:
        taken, self._kept = bytes(self._kept), bytearray()
        return taken


def _pieces_of(file: IO[bytes], left: int, *, verbatim: bool) -> Iterator[bytes]:
    read = file.read if verbatim else file.readline
    while piece := read(min(_PIECE, left)):
        left -= len(piece)
        yield piece if verbatim else strip_machine_details(piece)


def strip_machine_details(line: bytes) -> bytes:
    """A line of a log without the directories of paths and without details of the machine."""
    return _OF_THE_MACHINE.sub(rb"\1: ...", _DIRECTORIES.sub(b".../", line))
