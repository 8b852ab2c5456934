"""Evidence as a zip: made in bounded memory, and without what only the operator of a machine may know.

The zip is for the client, so directories and what the kernel was started with are left out of its texts.
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
"""So much of a file, which keeps the zip in its plain format (below 2 GiB a file)."""

_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can tell."""

_DIRECTORIES: Final = re.compile(rb"(?<![\w./-])/(?:[\w.+@~-]+/)+")
_OF_THE_MACHINE: Final = re.compile(rb"(Current Operating System|Kernel command line):.*")
"""Lines of the X server's log."""


class Opened(NamedTuple):
    """A file where reading is to begin, how many bytes of it are wanted, and when it was written."""

    file: IO[bytes]
    size: int
    changed: Moment


@dataclass(frozen=True)
class Entry:
    """A file that a zip is to have, under a name of the farm's own.

    `open` raises OSError. What is not a text, or was made ready before, comes `as_it_is`.
    """

    name: str
    open: Callable[[], Opened]
    as_it_is: bool = False


def entry_of_file(name: str, path: Path, most_bytes: int = _MAX_BYTES) -> Entry:
    """The end of a file, to which another process may be writing: as it is when it is opened."""

    def opened() -> Opened:
        file = path.open("rb")
        about = os.fstat(file.fileno())
        size = min(about.st_size, most_bytes)
        file.seek(about.st_size - size)
        return Opened(file, size, time.gmtime(about.st_mtime)[:6])

    return Entry(name, opened, as_it_is=path.name == SCREENSHOT)


def entry_of_text(name: str, text: str) -> Entry:
    """What the farm itself has to say."""
    content = text.encode()
    return Entry(name, lambda: Opened(io.BytesIO(content), len(content), time.gmtime()[:6]))


def entries_of_zip(file: IO[bytes], below: str = "") -> list[Entry]:
    """The evidence in a zip that `zip_pieces` has made, put into the directory `below`.

    Anything else in it is left out. Raises zipfile.BadZipFile, OSError.
    """
    archive = zipfile.ZipFile(file)

    def entry(about: zipfile.ZipInfo) -> Entry:
        return Entry(
            f"{below}/{about.filename}" if below else about.filename,
            lambda: Opened(archive.open(about), min(about.file_size, _MAX_BYTES), about.date_time),
            as_it_is=True,
        )

    found = {about.filename: about for about in archive.infolist() if is_evidence(about.filename)}
    return [entry(about) for about in found.values()]


def zip_pieces(entries: Iterable[Entry]) -> Generator[bytes]:
    """A zip as it is made, without the machine's directories in its texts; in bounded memory.

    A file that is not there any more is left out.
    """
    made = _Made()
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
                    for piece in _pieces_of(file, size, as_it_is=entry.as_it_is):
                        output.write(piece)
                        if made.size >= _PIECE:
                            yield made.taken()
    yield made.taken()


class _Made(io.RawIOBase):
    """Where a zip is written to: it keeps what has been written until it is taken."""

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


def _pieces_of(file: IO[bytes], left: int, *, as_it_is: bool) -> Iterator[bytes]:
    read = file.read if as_it_is else file.readline
    while piece := read(min(_PIECE, left)):
        left -= len(piece)
        yield piece if as_it_is else without_the_machine(piece)


def without_the_machine(line: bytes) -> bytes:
    """A line of a log without the directories that lead to files, and without what is said of the machine."""
    return _OF_THE_MACHINE.sub(rb"\1: ...", _DIRECTORIES.sub(b".../", line))
