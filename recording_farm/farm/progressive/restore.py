"""Restores a spool from its replica in the store, on the node that takes the recording over.

The recorder does not wait: it records takes with higher numbers meanwhile. The cut waits.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final
from uuid import UUID

import av

from recording_farm.encoder.atomic_file import write_file
from recording_farm.encoder.journal import Journal, read_journal
from recording_farm.encoder.media.packets import time_of, whole_packets
from recording_farm.encoder.media.partial_file import open_take, whole_bytes
from recording_farm.encoder.media.take_tail import first_fragment, introduction_size
from recording_farm.encoder.mux.body import BODY_NAME
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import FarmError
from recording_farm.farm.progressive.replica import (
    NO_REPLICA,
    known_generation,
    replica_store,
    save_generation,
)
from recording_farm.farm.progressive.replica_contents import CUT
from recording_farm.farm.progressive.replica_format import (
    MAX_OBJECT_BYTES,
    DamagedReplicaError,
    Index,
    PieceName,
    Range,
    newest,
    unpack,
)
from recording_farm.farm.progressive.restored import (
    NOTHING_RESTORED,
    Restored,
    begin_restoring,
    end_restoring,
    give_up_restoring,
    is_restoring,
    read_restored,
    save_restored,
)
from recording_farm.farm.progressive.sent_parts import read_ahead, save_ahead, targets_ahead
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.timeline import last_take_over
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import TEXTS, Spool
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.parts import UPLOAD_GONE
from recording_farm.farm.storage.store import Store

logger = logging.getLogger(__name__)

_FETCHES: Final = 4
"""Objects that are fetched concurrently."""

_MOST_STATES: Final = 3
"""How many states of a replica are tried, from the newest back. Each is about two seconds older."""

_HEAD_BYTES: Final = 8 << 20
"""The first fragment of a tail begins within this length."""

_DAMAGED: Final = frozenset({"damaged", "encrypted", "bad_answer", "not_found"})
"""Errors with which an object of a replica cannot be read, now or ever."""

_Use = Callable[[Index, int, memoryview], None]

_DRAFT: Final = ".restored"
_FILE: Final = re.compile(r"(out/(\.cut/)?|before/)?\.?[A-Za-z0-9_-][A-Za-z0-9._-]*")


class NotRestorableError(FarmError):
    """The replica is damaged, or does not match the takes of this node."""

    generation = 0
    """The generation of the replica, see `farm.progressive.replica_format`."""


def restore_if_behind(spool: Spool, store: Store, recording: Recording, settings: Settings) -> None:
    """Restore the spool if the store has a newer replica, of another node or of an earlier disk of this one.

    Only for the process that holds the claim `cut`. Raises StorageError, NotRestorableError, OSError.
    """
    outbox = Outbox.of(spool)
    names = list(store.list_names(recording.id))
    found = newest(names)
    is_again = is_restoring(outbox)
    if found is None and is_again:
        logger.error("the store no longer has the replica that must be restored")
        give_up_restoring(outbox)
    if found is None or (found.generation <= known_generation(outbox) and not is_again):
        return
    logger.warning("restoring the recording of an earlier node from the store")
    draft = spool.directory / _DRAFT

    def write(index: Index, number: int, data: memoryview) -> None:
        _write_ranges(index, number, data, draft)

    try:
        index = _read_newest(store, recording.id, found, names, write, partial(_clear, draft))
        if not is_again:
            _set_old_takes_aside(spool, recording, settings)
        restored = _move_in_place(index, draft, spool)
    except NotRestorableError as error:
        error.generation = found.generation
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _take_uploads_over(outbox, store, recording)
    before = read_restored(outbox) if is_again else None
    if before is not None and before.last_take is not None:
        # The replica also has takes of this node, recorded since the first restore.
        restored = replace(
            before, hole_begin=restored.hole_begin, hole_end=restored.hole_end, identity=restored.identity
        )
    save_restored(outbox, restored)
    save_generation(outbox, found.generation)
    end_restoring(outbox)
    logger.info("restored %d files", len(index.files))


def can_restore(recording: Recording, settings: Settings) -> bool:
    """Whether the store has a replica of a recording's spool that this node can read.

    Raises StorageError, SettingsError.
    """
    store = replica_store(recording, settings)
    if store is None:
        return False
    try:
        names = list(store.list_names(recording.id))
        found = newest(names)
        if found is None:
            return False
        _read_newest(store, recording.id, found, names, _check_ranges, lambda: None)
    except StorageError as error:
        if error.reason in NO_REPLICA:
            return False
        raise
    except NotRestorableError as error:
        logger.error("the replica of recording %s is not usable: %s", recording.id, error.message)
        return False
    return True


def _read_newest(
    store: Store, recording_id: UUID, found: PieceName, names: list[str], use: _Use, begin: Callable[[], None]
) -> Index:
    """Pass the data of all objects to `use`, which must be safe for threads; returns their index.

    If an object is damaged, older states of the same replica are tried, each after a call of `begin`.
    Raises StorageError, OSError, NotRestorableError if no state can be read.
    """
    parsed = (PieceName.parse(name) for name in names)
    states = sorted(
        each
        for each in parsed
        if each is not None
        and each.is_complete
        and (each.generation, each.writer) == (found.generation, found.writer)
    )
    problem = ""
    for state in states[: -_MOST_STATES - 1 : -1]:
        begin()
        try:
            return _read(store, recording_id, state, names, use)
        except DamagedReplicaError as error:
            problem = str(error)
        except StorageError as error:
            if error.reason not in _DAMAGED:
                raise
            problem = error.message
        logger.error("the state %s of the replica is not usable: %s", state, problem)
    raise NotRestorableError(problem)


def _read(store: Store, recording_id: UUID, found: PieceName, names: list[str], use: _Use) -> Index:
    index, data = unpack(store.get_bytes(recording_id, str(found), MAX_OBJECT_BYTES))
    use(index, found.number, data)
    present = {
        parsed.number: name
        for name in names
        if (parsed := PieceName.parse(name)) is not None
        and (parsed.generation, parsed.writer) == (found.generation, found.writer)
    }

    def fetch(number: int) -> None:
        if number not in present:
            raise DamagedReplicaError(f"the store lacks the object {number} of the replica")
        _, content = unpack(store.get_bytes(recording_id, present[number], MAX_OBJECT_BYTES))
        use(index, number, content)

    with ThreadPoolExecutor(_FETCHES) as pool:
        for _ in pool.map(fetch, sorted(index.pieces - {found.number})):
            pass
    return index


def _clear(draft: Path) -> None:
    shutil.rmtree(draft, ignore_errors=True)


def _check_ranges(index: Index, number: int, data: memoryview) -> None:
    """Raises DamagedReplicaError if the data of an object is not what the index says."""
    for file, ranges in index.files.items():
        if not _FILE.fullmatch(file):
            raise DamagedReplicaError("a replica has a file that does not belong in a spool")
        if any(each.piece == number and each.at + each.size > len(data) for each in ranges):
            raise DamagedReplicaError("an object of a replica is too short")


def _write_ranges(index: Index, number: int, data: memoryview, draft: Path) -> None:
    """Write the data of an object to files in the directory `draft`, with holes where there is no data."""
    _check_ranges(index, number, data)
    for file, ranges in index.files.items():
        for each in ranges:
            if each.piece != number:
                continue
            target = draft / file
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(descriptor, data[each.at : each.at + each.size], each.offset)
            finally:
                os.close(descriptor)


def _move_in_place(index: Index, draft: Path, spool: Spool) -> Restored:
    kept = _takes_of_this_node(index, draft, spool)
    outbox = Outbox.of(spool)
    # Then the takes that are here already are those of the replica.
    was_crashed = is_restoring(outbox) and read_restored(outbox) == NOTHING_RESTORED
    outbox.make()
    is_first = not is_restoring(outbox)
    begin_restoring(outbox)
    spool.before.mkdir(exist_ok=True, mode=0o700)
    shutil.rmtree(spool.directory / CUT, ignore_errors=True)
    if is_first:
        # A restore after a crash must not use the note of an earlier loss.
        save_restored(outbox, NOTHING_RESTORED)
    for stale in outbox.directory.glob(".*.ahead"):
        stale.unlink()
    _merge_texts(draft, spool)
    # Journals first: after a crash, a take without its journal would be taken for another one.
    for file in sorted(index.files, key=lambda name: not name.endswith(".json")):
        source, target = draft / file, spool.directory / file
        if not source.exists() or _take_number(file) in kept:
            continue
        if PurePosixPath(file).suffix == spool.format.take_suffix and "/" not in file:
            _move_take(source, index.files[file], target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            source.replace(target)
    theirs = {_take_number(file) for file in index.files} - {None}
    if not was_crashed:
        theirs -= kept
    last, until_us = _end_of(spool, theirs)
    begin, end = _hole(index.files.get(f"{CUT}/{BODY_NAME}", ()))
    return Restored(last, until_us, begin, end, _identity(spool))


def _identity(spool: Spool) -> str:
    try:
        return str(json.loads((spool.directory / CUT / "state").read_text())["identity"])
    except FileNotFoundError:
        return ""


def _takes_of_this_node(index: Index, draft: Path, spool: Spool) -> set[int | None]:
    """The takes in the replica that this node has already, at least as far.

    Raises NotRestorableError if a take of this node has the number of another node's take.
    """
    kept: set[int | None] = set()
    for file in index.files:
        number = _take_number(file)
        if number is None or not (spool.directory / file).exists() or file.endswith(".json"):
            continue
        theirs = read_journal((draft / file).with_suffix(".json"))
        mine = read_journal(spool.media(number).with_suffix(".json"))
        if theirs is None or mine is None or theirs.wall_us != mine.wall_us:
            raise NotRestorableError(f"{file} in the replica is another take than the one of this node")
        kept.add(number)
    return kept


def _take_number(file: str) -> int | None:
    found = re.fullmatch(r"take-(\d+)\..*", file)
    return None if found is None else int(found[1])


def _merge_texts(draft: Path, spool: Spool) -> None:
    """Append the texts of the earlier node to those of even earlier nodes."""
    texts = [draft / spool.before.name / TEXTS, draft / TEXTS]
    content = b"".join(each.read_bytes() for each in texts if each.exists())
    if content:
        write_file(spool.before / TEXTS, content)
    for each in texts:
        each.unlink(missing_ok=True)


def _move_take(source: Path, ranges: tuple[Range, ...], target: Path) -> None:
    """Move a take in place: its introduction, and all from the first whole fragment of its tail on."""
    _, tail = _tail_of(ranges)
    if tail is not None:
        # Before the hole there may be more than the introduction, up to the middle of a fragment.
        introduction = introduction_size(source)
        compact = source.with_name(f"{source.name}.compact")
        with source.open("rb") as file, compact.open("xb") as output:
            output.write(file.read(introduction))
            file.seek(tail)
            head = file.read(_HEAD_BYTES)
            begin = first_fragment(head, source.suffix)
            if begin is not None:
                output.write(head[begin:])
                shutil.copyfileobj(file, output, 1 << 20)
        compact.replace(source)
    with source.open("r+b") as file:
        file.truncate(whole_bytes(file))
    source.replace(target)


def _tail_of(ranges: tuple[Range, ...]) -> tuple[int, int | None]:
    """The ends of the hole: where the first bytes end and the tail begins. The latter is None without a
    hole."""
    position = 0
    for each in ranges:
        if each.offset > position:
            return position, each.offset
        position = max(position, each.end)
    return position, None


def _hole(ranges: tuple[Range, ...]) -> tuple[int, int]:
    begin, end = _tail_of(ranges)
    return (0, 0) if end is None else (begin, end)


def _end_of(spool: Spool, restored: set[int | None]) -> tuple[int | None, int | None]:
    """The last restored take and its end (unix, µs), which is also set as the time of its file."""
    numbers = sorted(number for number in restored if number is not None)
    last = max(numbers, default=None)
    until_us = None
    for number in numbers:
        file = spool.media(number)
        journal = read_journal(file.with_suffix(".json"))
        if not file.exists() or journal is None:
            continue
        until_us = _last_time(file, journal)
        if until_us is not None:
            # A take without an end ends with its last write.
            os.utime(file, ns=(until_us * 1000, until_us * 1000))
    return last, until_us


def _last_time(file: Path, journal: Journal) -> int | None:
    try:
        with open_take(file) as source:
            last = max((time_of(packet) for packet in whole_packets(source)), default=None)
    except av.FFmpegError:
        return None
    if last is None:
        return None
    return journal.epoch * 1_000_000 + round(last / Fraction(*journal.stretch))


def _set_old_takes_aside(spool: Spool, recording: Recording, settings: Settings) -> None:
    """Set aside the takes that this node recorded before another one took the recording over."""
    taken_over = last_take_over(recording.timeline)
    if taken_over is None:
        return
    before_us = round(taken_over.timestamp() * 1_000_000)
    directory = settings.superseded_dir / str(recording.id)
    for number in spool.numbers():
        media = spool.media(number)
        journal = read_journal(media.with_suffix(".json"))
        if journal is None or journal.wall_us >= before_us:
            continue
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in (media, media.with_suffix(".json")):
            if not file.exists():
                continue
            if (directory / file.name).exists():
                # All of the take is there; this is the end of it, which was restored later.
                file.unlink()
            else:
                shutil.move(file, directory / file.name)
        logger.warning("set aside take %d: another node had taken the recording over", number)


def _take_uploads_over(outbox: Outbox, store: Store, recording: Recording) -> None:
    """Continue the uploads of the node before, so that parts it still sends do no harm."""
    for target in targets_ahead(outbox):
        ahead = read_ahead(outbox, target)
        if ahead is None:
            continue
        begun: dict[str, Any] | None = None
        if target == STORE:
            try:
                begun = store.adopt_parts(recording.id, recording.output_file_name, ahead.begun)
            except StorageError as error:
                if error.reason != UPLOAD_GONE:
                    raise
                # The finish job reacts to it, too.
                logger.error("the store no longer has the parts that an earlier node sent: %s", error.message)
        save_ahead(outbox, target, ahead.taken_over(begun))
