"""Replicates a spool to the store every two seconds, for the node that takes over if this one is lost.

It writes small objects (`farm.progressive.replica_format`) and deletes those that are no longer needed. It
starts with a listing: a key that may not list could not clean up either, so there is no replica then.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from secrets import token_hex
from typing import Final
from uuid import UUID

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.progressive.places import is_apart
from recording_farm.farm.progressive.replica_contents import Contents, Grown, Interval, SpoolContents
from recording_farm.farm.progressive.replica_format import (
    PIECE_BYTES,
    Index,
    PieceName,
    Range,
    last_generation,
    pack,
)
from recording_farm.farm.progressive.restored import NOTHING_RESTORED, read_restored
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.backends.disk import read_at
from recording_farm.farm.storage.store import Store, open_store

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 2.0
"""Between two objects. Together with a fragment of a quarter of a second and the upload, less than six
seconds are lost with a node."""

CLAIM: Final = "replica"
"""The lock of an outbox that is held while its spool is replicated, or its replica is deleted."""

_MOST_WAIT: Final = 10.0
"""Seconds before a retry; each failure doubles them."""

_MOST_AT_ONCE: Final = 4
"""Objects that are written before the next look, which leaves out what the store has received in parts."""

_SMALL_BYTES: Final = 256 << 10
_MOST_SMALL: Final = 64
"""So many small ranges of a file are merged into one, so that an index stays short."""

NO_REPLICA: Final = frozenset({"no_permission"})
"""Errors with which a store cannot have a replica."""

_DELETE_AT_ONCE: Final = 16
_MARKER: Final = ".replica"


@dataclass(frozen=True)
class _Missing:
    """Bytes that the store does not have: a range of a file, or a whole small file."""

    file: str
    offset: int
    size: int
    content: bytes | None = None


@dataclass
class _Replicated:
    """The ranges of a file that the store has, and the identity of the content."""

    identity: object
    ranges: list[Range] = field(default_factory=list)


class ReplicaWriter:
    """Writes the objects of one generation."""

    def __init__(self, spool: Spool, store: Store, recording_id: UUID) -> None:
        """Begin a generation behind those in the store. Raises StorageError, OSError."""
        self._spool = spool
        self._store = store
        self._recording_id = recording_id
        self._contents = SpoolContents(spool)
        outbox = Outbox.of(spool)
        names = list(store.list_names(recording_id))
        self._generation = max(last_generation(names), known_generation(outbox)) + 1
        self._earlier = _deletable(names, outbox)
        self._writer = token_hex(4)
        self._next = 1
        self._files: dict[str, _Replicated] = {}
        self._present: dict[int, str] = {}
        outbox.make()
        save_generation(outbox, self._generation)

    def write(self) -> bool:
        """Write what is new; true if there is more. Raises StorageError, OSError."""
        batches = list(_batches(self._missing(self._contents.look())))
        if not batches:
            return False
        for number, batch in enumerate(batches[:_MOST_AT_ONCE], start=1):
            self._write(batch, is_complete=number == len(batches))
        has_more = len(batches) > _MOST_AT_ONCE
        if not has_more:
            self._tidy()
        return has_more

    def _missing(self, contents: Contents) -> Iterator[_Missing]:
        for file in self._files.keys() - contents.grown.keys() - contents.whole.keys():
            del self._files[file]
        for file, content in contents.whole.items():
            identity = blake2b(content, digest_size=16).digest()
            if self._known(file, identity).ranges:
                continue
            yield _Missing(file, 0, len(content), content)
        for file, grown in contents.grown.items():
            known = self._known(file, grown.identity)
            known.ranges = _needed(known.ranges, grown)
            for begin, end in _gaps(known.ranges, grown):
                yield _Missing(file, begin, end - begin)

    def _known(self, file: str, identity: object) -> _Replicated:
        known = self._files.get(file)
        if known is None or known.identity != identity:
            known = self._files[file] = _Replicated(identity)
        return known

    def _write(self, batch: list[_Missing], *, is_complete: bool) -> None:
        data = bytearray()
        added: list[tuple[str, Range]] = []
        for each in batch:
            content = each.content
            if content is None:
                content = self._read(each)
            added.append((each.file, Range(each.offset, each.size, self._next, len(data))))
            data += content
        for file, new in added:
            self._files[file].ranges.append(new)
            self._files[file].ranges.sort(key=lambda known: known.offset)
        name = str(PieceName(self._generation, self._writer, self._next, is_complete))
        try:
            self._store.put_bytes(self._recording_id, name, pack(self._index, data))
        except BaseException:
            for file, new in added:
                self._files[file].ranges.remove(new)
            # The object may have arrived all the same.
            self._present[self._next] = name
            self._next += 1
            raise
        self._present[self._next] = name
        self._next += 1

    def _read(self, missing: _Missing) -> bytes:
        with (self._spool.directory / missing.file).open("rb", buffering=0) as file:
            return read_at(file, missing.offset, missing.size)

    @property
    def _index(self) -> Index:
        return Index({file: tuple(known.ranges) for file, known in self._files.items()})

    def _tidy(self) -> None:
        """Delete objects that are no longer needed. The newest object has the index of all others."""
        needed = {*self._index.pieces, self._next - 1}
        over = self._present.keys() - needed
        if len(over) >= _DELETE_AT_ONCE:
            self._store.delete_many(self._recording_id, [self._present[number] for number in over])
            for number in over:
                del self._present[number]
        if self._earlier:
            self._store.delete_many(self._recording_id, self._earlier)
            self._earlier = []


class ReplicaThread(threading.Thread):
    """Replicates a spool until it is stopped, while this node owns the recording."""

    def __init__(self, spool: Spool, store: Store, recording_id: UUID, is_mine: Callable[[], bool]) -> None:
        """`is_mine` says whether this node still owns the recording, see `farm.progressive.ownership`."""
        super().__init__(name=f"replica of {recording_id}", daemon=True)
        self._spool = spool
        self._store = store
        self._recording_id = recording_id
        self._is_mine = is_mine
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Write no further object."""
        self._stopping.set()

    def run(self) -> None:
        """See the class."""
        with Outbox.of(self._spool).claimed(CLAIM) as mine:
            if mine:
                self._write_all()

    def _write_all(self) -> None:
        writer: ReplicaWriter | None = None
        failures = 0
        wait = 0.0
        while not self._stopping.wait(wait):
            wait = INTERVAL_SECONDS
            if not self._is_mine():
                continue
            try:
                writer = writer or ReplicaWriter(self._spool, self._store, self._recording_id)
                while writer.write() and not self._stopping.is_set() and self._is_mine():
                    pass
                failures = 0
            except StorageError as error:
                level = logging.DEBUG if failures else logging.WARNING
                logger.log(level, "cannot replicate the spool to the store now: %s", error.message)
                failures = min(failures + 1, 10)
                wait = min(INTERVAL_SECONDS * 2**failures, _MOST_WAIT)
                if error.reason in NO_REPLICA and writer is None:
                    return
            except OSError as error:
                # A file was just replaced.
                logger.debug("cannot read the spool for its replica: %s", error)


def replica_store(recording: Recording, settings: Settings) -> Store | None:
    """The store for the replica of a recording's spool; None without a replica.

    There is none if the store keeps no copy of the recording, or if it is in the node's data directory, which
    would be lost with the node. Raises SettingsError.
    """
    return open_store(settings) if recording.keep_copy and is_apart(settings) else None


def drop_replica(outbox: Outbox, recording: Recording, settings: Settings) -> None:
    """Delete the replica of a recording that is over, if this node has one.

    Raises StorageError, SettingsError.
    """
    if not known_generation(outbox):
        return
    store = open_store(settings)
    with outbox.claimed_in_turn(CLAIM):
        if (read_restored(outbox) or NOTHING_RESTORED).unusable:
            store.delete_many(recording.id, _deletable(store.list_names(recording.id), outbox))
        else:
            store.delete_spool(recording.id)


def _deletable(names: Iterable[str], outbox: Outbox) -> list[str]:
    """These objects without those of a replica that cannot be read: an operator may still save them."""
    unusable = (read_restored(outbox) or NOTHING_RESTORED).unusable
    parsed = ((name, PieceName.parse(name)) for name in names)
    return [name for name, piece in parsed if piece is None or not unusable or piece.generation != unusable]


def known_generation(outbox: Outbox) -> int:
    """The generation of the replica that this node last wrote or restored; 0 without one."""
    try:
        return int((outbox.directory / _MARKER).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def save_generation(outbox: Outbox, generation: int) -> None:
    """Remember the generation. Raises OSError."""
    write_file(outbox.directory / _MARKER, str(generation))


def _needed(ranges: list[Range], grown: Grown) -> list[Range]:
    """The ranges that overlap the intervals, without small ones that are written again as one."""
    kept = [
        each
        for each in ranges
        if any(each.offset < end and begin < each.end for begin, end in grown.intervals)
    ]
    small = [each for each in kept if each.size < _SMALL_BYTES]
    return kept if len(small) < _MOST_SMALL else [each for each in kept if each.size >= _SMALL_BYTES]


def _gaps(ranges: list[Range], grown: Grown) -> Iterator[Interval]:
    """The parts of the intervals that the ranges, in order, do not cover."""
    for begin, end in grown.intervals:
        position = begin
        for each in ranges:
            if each.end <= position or each.offset >= end:
                continue
            if each.offset > position:
                yield position, each.offset
            position = max(position, each.end)
        if position < end:
            yield position, end


def _batches(missing: Iterable[_Missing]) -> Iterator[list[_Missing]]:
    """The data of each object. Ranges are divided to fit; small files are not."""
    batch: list[_Missing] = []
    size = 0
    for each in missing:
        for piece in _divided(each):
            if batch and size + piece.size > PIECE_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(piece)
            size += piece.size
    if batch:
        yield batch


def _divided(missing: _Missing) -> Iterator[_Missing]:
    if missing.content is not None or not missing.size:
        yield missing
        return
    for begin in range(0, missing.size, PIECE_BYTES):
        size = min(PIECE_BYTES, missing.size - begin)
        yield _Missing(missing.file, missing.offset + begin, size)
