"""The process of each node that uploads evidence to the store: of a failure while its recording is still
made, and all of it when the recording has ended.

It reads the data directory and depends on no queue. So no process that dies needs special handling: evidence
of ERRORED recordings, of recordings that another node took over and of dead recorders is uploaded like any
other. And no file waits for it.
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
from recording_farm.farm.evidence.directory import Uploaded, Version, read_uploaded, save_uploaded, version_of
from recording_farm.farm.evidence.stored import StoredEvidence, new_part
from recording_farm.farm.host.processes import stop_event
from recording_farm.farm.recording.model import ACTIVE, FINAL
from recording_farm.farm.recording.records import Records
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import open_store

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 10.0
"""Between two runs over the evidence of recordings that have not ended."""

_FULL_RUN_EVERY: Final = 60
"""Every so many runs include recordings that have ended and are stored, because an upload may be retried
after hours; and those without a readable record."""

_SKIPPED_RUNS: Final = 6
"""Runs that are skipped after the store failed."""

_END_SECONDS: Final = 30
"""Time for the last run; a store that hangs must not keep a node from ending."""

_MAX_BYTES: Final = 16 << 20
"""Limit for a recording's evidence before compression: twenty failures with usual screenshots (some 300 KiB),
or a few with the largest. Most recordings have a log of 10 KiB and no failure at all."""

_MAX_LOG_BYTES: Final = 2 << 20
"""Limit for the end of its log: all of it, unless a page prints its 5000 lines on each of many stages."""

_PACKED: Final = "evidence.zip"


def run_evidence_uploader(settings: Settings) -> None:
    """Upload evidence from this node's data directory until SIGTERM, then that of the last recordings."""
    stopping = stop_event(within=_END_SECONDS)
    outage = Outage("cannot upload evidence")
    with connect(settings.redis_address) as client:
        uploader = EvidenceUploader(settings, client)
        while True:
            is_last = stopping.wait(INTERVAL_SECONDS)
            try:
                uploader.run_once(force=is_last)
                outage.recovered()
            except redis.RedisError as error:
                outage.failed(error)
            if is_last:
                return


class EvidenceUploader:
    """Uploads the evidence on this node that the store does not have."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        """Reads and writes nothing yet."""
        self._settings = settings
        self._client = client
        self._records = Records(client)
        self._evidence: StoredEvidence | None = None
        self._settled: set[str] = set()
        self._failed: set[str] = set()
        self._runs = 0
        self._skip_until = 0

    def run_once(self, *, force: bool = False) -> None:
        """Upload what is new. Runs within a minute of a failure of the store are skipped, without `force`.

        Raises redis.RedisError when Redis cannot be reached.
        """
        self._runs += 1
        if self._runs % _FULL_RUN_EVERY == 0:
            self._settled.clear()
        if self._runs < self._skip_until and not force:
            return
        with _exclusive(self._settings.carrying_dir) as exclusive:
            if exclusive:
                self._upload_all()

    def _upload_all(self) -> None:
        names = {directory.name for directory in self._settings.evidence_dir.glob("*-*-*-*-*")}
        self._settled &= names
        # What failed comes last: one failing upload must not delay the others.
        for name in sorted(names - self._settled, key=lambda name: (name in self._failed, name)):
            try:
                self._upload(self._settings.evidence_dir / name)
                self._failed.discard(name)
            except FileNotFoundError:
                continue  # deleted meanwhile, or an old failure of it
            except RecordUnreadableError as error:
                logger.warning("not uploading the evidence of %s: %s", name, error.message)
                self._settled.add(name)
            except (StorageError, SettingsError, OSError) as error:
                logger.warning("cannot upload the evidence of %s; retrying in a minute: %s", name, error)
                self._failed.add(name)
                self._skip_until = self._runs + _SKIPPED_RUNS
                return

    def _upload(self, directory: Path) -> None:
        try:
            recording_id = UUID(directory.name)
        except ValueError:
            self._settled.add(directory.name)
            return
        uploaded = read_uploaded(directory)
        try:
            status = self._records.get(None, recording_id).status
        except NotFoundError:
            if self._records.was_deleted(recording_id):
                self._forget(recording_id, directory, uploaded)
            # Redis may have lost the record; then this evidence is all there is.
            self._settled.add(directory.name)
            return
        version = version_of(directory)
        if not needs_upload(version, uploaded, is_active=status in ACTIVE):
            if status in FINAL:
                self._settled.add(directory.name)
            return
        if uploaded is None:
            # The name is saved before its use, so an uploader that was killed uses it again.
            uploaded = Uploaded(new_part(self._settings.node))
            save_uploaded(directory, uploaded)
        if self._put(recording_id, directory, uploaded.part):
            save_uploaded(directory, Uploaded(uploaded.part, version))
            logger.info("uploaded the evidence of recording %s", recording_id)

    def _put(self, recording_id: UUID, directory: Path, part: str) -> bool:
        # A directory store hard-links the file, so it is a new one each time.
        file = self._settings.carrying_dir / _PACKED
        file.unlink(missing_ok=True)
        with file.open("wb") as output:
            for piece in zip_pieces(files_to_upload(directory)):
                output.write(piece)
        return self._stored().put(recording_id, part, file)

    def _forget(self, recording_id: UUID, directory: Path, uploaded: Uploaded | None) -> None:
        """Delete the evidence of a deleted recording, here and what was uploaded during its deletion."""
        if uploaded is not None:
            self._stored().delete_part(recording_id, uploaded.part)
        shutil.rmtree(directory, ignore_errors=True)

    def _stored(self) -> StoredEvidence:
        if self._evidence is None:
            store = open_store(self._settings)
            self._evidence = StoredEvidence(self._client, store)
        return self._evidence


def needs_upload(version: Version, uploaded: Uploaded | None, *, is_active: bool) -> bool:
    """Whether the store lacks something; the growing log of an active recording does not count."""
    stored = uploaded.version if uploaded is not None else Version()
    return version.faults != stored.faults or (not is_active and version.log != stored.log)


def files_to_upload(directory: Path, most_bytes: int = _MAX_BYTES) -> Iterator[Entry]:
    """The end of the log, then the files of the latest failures, up to `most_bytes` in all."""
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
    # Screenshots are the large files.
    fault = file[1].parent.name.removeprefix("fault-")
    return -int(fault), file[1].suffix == ".png"


@contextmanager
def _exclusive(carrying_dir: Path) -> Iterator[bool]:
    """Be the only uploader of a data directory, which nodes may share. False if there is another one."""
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
