"""The process of each node that brings evidence into the store: a fault's while its recording is still made,
all of it when the recording has ended.

It looks at what lies in the data directory, not at what somebody tells it. So nothing has to be queued or
tried again, whoever dies: evidence of ERRORED recordings, of such that another node has taken over and of
dead recorders is carried as any other. And no file has to wait for it.
"""

import fcntl
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import Outage
from recording_farm.farm.errors import NotFoundError, RecordUnreadableError, SettingsError
from recording_farm.farm.evidence.archive import Entry, entry_of_file, zip_pieces
from recording_farm.farm.evidence.collect import RECORDER_LOG, evidence_files
from recording_farm.farm.evidence.directory import Carried, Version, keep_carried, read_carried, version_of
from recording_farm.farm.evidence.stored import StoredEvidence, new_part
from recording_farm.farm.host.processes import stop_event
from recording_farm.farm.recording.model import ACTIVE, FINAL
from recording_farm.farm.recording.records import Records
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import open_store

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 10.0
"""Between two looks at the evidence of recordings that are not over."""

_RARELY: Final = 60
"""Each so many looks also at what is over and stored, for an upload may be tried again after hours; and at
what is not carried because its record is not known or cannot be read."""

_REST_LOOKS: Final = 6
"""So many looks a store that failed is left alone."""

_END_SECONDS: Final = 30
"""What the last look may take; a store that hangs must not keep a node from ending."""

_MAX_BYTES: Final = 16 << 20
"""So much of a recording's evidence is carried, before it is packed: twenty faults with usual screenshots
(some 300 KiB), or a few with the largest. Most recordings have a log of 10 KiB and no fault at all."""

_MAX_LOG_BYTES: Final = 2 << 20
"""So much of the end of its log: all of it, unless a page prints its 5000 lines on each of many stages."""

_PACKED: Final = "evidence.zip"


def run_evidence_carrier(settings: Settings) -> None:
    """Carry what lies in this node's data directory until SIGTERM, and then what the last recordings left."""
    stopping = stop_event(within=_END_SECONDS)
    outage = Outage("evidence of faults cannot be brought into the store")
    with connect(settings.redis_address) as client:
        carrier = Carrier(settings, client)
        while True:
            is_last = stopping.wait(LOOK_SECONDS)
            try:
                carrier.look(rested=is_last)
                outage.over()
            except redis.RedisError as error:
                outage.seen(error)
            if is_last:
                return


class Carrier:
    """Looks at all evidence on this node, and carries what the store has not."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        """Nothing is read or written yet."""
        self._settings = settings
        self._client = client
        self._records = Records(client)
        self._evidence: StoredEvidence | None = None
        self._settled: set[str] = set()
        self._failed: set[str] = set()
        self._looks = 0
        self._rests_until = 0

    def look(self, *, rested: bool = False) -> None:
        """Look once; after the store has failed it rests for a minute, unless it is to be seen as `rested`.

        Raises redis.RedisError when Redis cannot be reached.
        """
        self._looks += 1
        if self._looks % _RARELY == 0:
            self._settled.clear()
        if self._looks < self._rests_until and not rested:
            return
        with _alone(self._settings.carrying_dir) as alone:
            if alone:
                self._carry_all()

    def _carry_all(self) -> None:
        names = {directory.name for directory in self._settings.evidence_dir.glob("*-*-*-*-*")}
        self._settled &= names
        # What failed last comes last: one that cannot be carried must not keep the others back.
        for name in sorted(names - self._settled, key=lambda name: (name in self._failed, name)):
            try:
                self._carry(self._settings.evidence_dir / name)
                self._failed.discard(name)
            except FileNotFoundError:
                continue  # deleted meanwhile, or an old fault of it
            except RecordUnreadableError as error:
                logger.warning("the evidence of %s is left here: %s", name, error.message)
                self._settled.add(name)
            except (StorageError, SettingsError, OSError) as error:
                logger.warning("the evidence of %s is not in the store yet: %s", name, error)
                self._failed.add(name)
                self._rests_until = self._looks + _REST_LOOKS
                return

    def _carry(self, directory: Path) -> None:
        try:
            recording_id = UUID(directory.name)
        except ValueError:
            self._settled.add(directory.name)
            return
        carried = read_carried(directory)
        try:
            status = self._records.get(None, recording_id).status
        except NotFoundError:
            if self._records.was_deleted(recording_id):
                self._forget(recording_id, directory, carried)
            # Redis may have lost it, and then this is all there is.
            self._settled.add(directory.name)
            return
        version = version_of(directory)
        if not is_to_be_carried(version, carried, is_active=status in ACTIVE):
            if status in FINAL:
                self._settled.add(directory.name)
            return
        if carried is None:
            # The name is kept before it is used, so that a carrier that was killed uses it again.
            carried = Carried(new_part(self._settings.node))
            keep_carried(directory, carried)
        if self._bring(recording_id, directory, carried.part):
            keep_carried(directory, Carried(carried.part, version))
            logger.info("the evidence of recording %s is in the store", recording_id)

    def _bring(self, recording_id: UUID, directory: Path, part: str) -> bool:
        # A store that is a directory gives the file a second name, so it is a new one each time.
        file = self._settings.carrying_dir / _PACKED
        file.unlink(missing_ok=True)
        with file.open("wb") as output:
            for piece in zip_pieces(worth_carrying(directory)):
                output.write(piece)
        return self._stored().put(recording_id, part, file)

    def _forget(self, recording_id: UUID, directory: Path, carried: Carried | None) -> None:
        """Delete what is here of a recording that was deleted, and what was brought while that happened."""
        if carried is not None:
            self._stored().delete_part(recording_id, carried.part)
        shutil.rmtree(directory, ignore_errors=True)

    def _stored(self) -> StoredEvidence:
        if self._evidence is None:
            store = open_store(self._settings)
            self._evidence = StoredEvidence(self._client, store)
        return self._evidence


def is_to_be_carried(version: Version, carried: Carried | None, *, is_active: bool) -> bool:
    """Whether the store lacks something; that the log of an active recording grows does not count."""
    stored = carried.version if carried is not None else Version()
    return version.faults != stored.faults or (not is_active and version.log != stored.log)


def worth_carrying(directory: Path, most_bytes: int = _MAX_BYTES) -> Iterator[Entry]:
    """The end of the log, and of the latest faults whatever is not too much altogether; the log first."""
    files = evidence_files(directory)
    log = files.pop(RECORDER_LOG, None)
    if log is not None:
        yield entry_of_file(RECORDER_LOG, log, _MAX_LOG_BYTES)
        most_bytes -= _MAX_LOG_BYTES
    for name, path in sorted(files.items(), key=_latest_first):
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            continue
        if size <= most_bytes:
            most_bytes -= size
            yield entry_of_file(name, path)


def _latest_first(file: tuple[str, Path]) -> tuple[int, int]:
    # Screenshots are what is large.
    fault = file[1].parent.name.removeprefix("fault-")
    return -int(fault), file[1].suffix == ".png"


@contextmanager
def _alone(carrying_dir: Path) -> Iterator[bool]:
    """Be the only one that carries from a data directory: nodes may share it. False if another one does."""
    carrying_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (carrying_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            (carrying_dir / _PACKED).unlink(missing_ok=True)
