"""The process of each node that follows its recordings: it cuts and uploads them while they are recorded.

It reads the spool and needs no queue; Redis says whether this node still owns a recording. If the process
dies, the worker restarts it and it resumes. Without it, the jobs that finish recordings do its work.
"""

import logging
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

import redis

from recording_farm.encoder.errors import MediaError, NothingRecordedError
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.errors import FarmError, SettingsError
from recording_farm.farm.host.processes import stop_event
from recording_farm.farm.progressive.exports import exports_of
from recording_farm.farm.progressive.following import CLAIM, Following, StoppedError, is_being_finished
from recording_farm.farm.progressive.loss import note_missing
from recording_farm.farm.progressive.names import cut_name, is_main_file
from recording_farm.farm.progressive.ownership import Ownership
from recording_farm.farm.progressive.places import Place, place_of
from recording_farm.farm.progressive.replica import NO_REPLICA, ReplicaThread, replica_store
from recording_farm.farm.progressive.reporting import Reporter
from recording_farm.farm.progressive.restore import NotRestorableError, restore_if_behind
from recording_farm.farm.progressive.restored import (
    NOTHING_RESTORED,
    give_up_restoring,
    is_restoring,
    read_restored,
    save_restored,
)
from recording_farm.farm.progressive.sending import Read, Sender
from recording_farm.farm.progressive.sent_parts import export_key, part_bytes_of
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.timeline import NOTHING as NOTHING_ELSEWHERE
from recording_farm.farm.recording.timeline import last_take_over, recorded_elsewhere
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.record_copy import saved_record
from recording_farm.farm.spool.spool import Spool, spools
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.host_keys import HostKeys
from recording_farm.farm.storage.store import Store
from recording_farm.farm.telemetry.logs import about

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.5
"""Between two looks for new recordings; watching the directory would cost more."""

_RETRY_LOOKS: Final = 20
"""Number of looks between a failure and the retry."""

_MOST_RESTORES: Final = 3
"""Attempts to restore a replica; then the file begins after the loss."""

_END_SECONDS: Final = 10
"""Time to stop; others cut the rest."""


def run_progressive(settings: Settings) -> None:
    """Follow the recordings of this node until SIGTERM."""
    stopping = stop_event(within=_END_SECONDS)
    followers: dict[str, _Follower] = {}
    Reporter(settings, lambda: {name: each.part_bytes for name, each in followers.copy().items()}).start()
    with connect(settings.redis_address) as client:
        node = _Node(
            *(settings, stopping, Ownership(client, settings.node), Records(client), HostKeys(client))
        )
        while not stopping.wait(_LOOK_SECONDS):
            present = {directory.name: directory for directory in spools(settings.spool_dir)}
            for name in followers.keys() - present.keys():
                node.ownership.forget(UUID(name))
                del followers[name]
            for name, directory in present.items():
                follower = followers.setdefault(name, _Follower(directory, node))
                follower.run_if_due()
        for follower in followers.values():
            follower.join()


@dataclass(frozen=True)
class _Node:
    """Shared by all followers of this process."""

    settings: Settings
    stopping: threading.Event
    ownership: Ownership
    records: Records
    host_keys: HostKeys


@dataclass(frozen=True)
class _Source:
    """A file that grows: its `name`, None if it is the cut itself, and its body."""

    name: str | None
    identity: str
    read: Read


class _Follower:
    """Follows one recording in a thread, and again after a failure."""

    def __init__(self, directory: Path, node: _Node) -> None:
        self._directory = directory
        self._node = node
        self._settings = node.settings
        self._failed_restores = 0
        self._noting: threading.Thread | None = None
        self._thread: threading.Thread | None = None
        self._looks_until_due = 0
        self._sending: list[Sender] | None = None

    @property
    def part_bytes(self) -> dict[str, int] | None:
        """Part sizes by target, of the targets that take parts; None before the recording is followed."""
        if self._sending is None:
            return None
        return {sender.target: sender.part_bytes for sender in self._sending if sender.takes_parts}

    def run_if_due(self) -> None:
        """Start following, unless it is followed already or waits for a retry."""
        if self._looks_until_due:
            self._looks_until_due -= 1
        elif self._thread is None or not self._thread.is_alive():
            self._looks_until_due = _RETRY_LOOKS
            self._thread = threading.Thread(target=self._run, name=self._directory.name, daemon=True)
            self._thread.start()

    def join(self) -> None:
        """Wait until it has stopped."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with about(self._directory.name):
            try:
                self._follow()
            except (StoppedError, NothingRecordedError) as error:
                logger.debug("%s", error)
            except (MediaError, FarmError, OSError) as error:
                logger.warning(
                    "recording %s is not cut while it runs, retrying: %s", self._directory.name, error
                )

    def _follow(self) -> None:
        saved = saved_record(self._directory)
        if saved is None:
            # The recorder is about to write the record.
            self._looks_until_due = 0
            return
        recording, sealed = saved
        spool = Spool(self._directory, format_of(recording))
        was_elsewhere = last_take_over(recording.timeline) is not None
        if is_being_finished(spool):
            return
        if not (spool.numbers() or was_elsewhere):
            # The page is being opened; look again soon, to replicate from the first second.
            self._looks_until_due = 0
            return
        with Outbox.of(spool).claimed(CLAIM) as mine:
            if mine and not self._node.ownership.is_lost(recording.id):
                self._follow_claimed(recording, sealed, spool)

    def _follow_claimed(self, recording: Recording, sealed: dict[str, str], spool: Spool) -> None:
        ownership = self._node.ownership
        store = replica_store(recording, self._settings)
        if store is not None and not self._is_restored(spool, store, recording):
            return
        if last_take_over(recording.timeline) is not None and read_restored(Outbox.of(spool)) is None:
            # Then the timeline says that the part before is missing.
            save_restored(Outbox.of(spool), NOTHING_RESTORED)
        following = Following(
            spool,
            cut_name(recording),
            recording.meeting_id,
            lambda: self._node.stopping.is_set() or ownership.is_lost(recording.id),
        )
        sources = [_Source(None, following.identity, following.read_body)] if is_main_file(recording) else []
        restored = read_restored(Outbox.of(spool)) or NOTHING_RESTORED
        # Exports need the beginning of the body.
        exports = [] if restored.hole_end else exports_of(recording, spool, following)
        sources += [_Source(each.name, each.identity, each.read_body) for each in exports]
        senders = self._senders(recording, sealed, Outbox.of(spool), sources)
        # Without the senders of exports, whose targets have other names.
        targets = {transfer.target for transfer in recording.transfers}
        self._sending = [sender for sender in senders if sender.target in targets]
        threads: list[Sender | ReplicaThread] = [*senders]
        if store is not None:
            threads.append(
                ReplicaThread(spool, store, recording.id, partial(ownership.is_mine, recording.id))
            )
        if self._noting is None or not self._noting.is_alive():
            self._noting = threading.Thread(target=self._note_missing, args=(recording, spool), daemon=True)
            self._noting.start()
        try:
            for thread in (*threads, *exports):
                thread.start()
            following.run(exports)
        finally:
            for export in exports:
                export.stop()
                # While the claim is held: afterwards another process may start the same file again.
                export.join()
            for thread in threads:
                thread.stop()

    def _is_restored(self, spool: Spool, store: Store, recording: Recording) -> bool:
        """Restore the replica of an earlier node; false to retry in some seconds."""
        try:
            restore_if_behind(spool, store, recording, self._settings)
        except StorageError as error:
            elsewhere = recorded_elsewhere(recording.timeline, spool.numbers())
            if error.reason in NO_REPLICA or (
                elsewhere is NOTHING_ELSEWHERE and not is_restoring(Outbox.of(spool))
            ):
                return True
            logger.warning("cannot restore the replica of an earlier node, retrying: %s", error.message)
            return False
        except NotRestorableError as error:
            # An object may just have been replaced by a newer one.
            self._failed_restores += 1
            logger.error("the replica of an earlier node is not usable: %s", error.message)
            if self._failed_restores < _MOST_RESTORES:
                return False
            give_up_restoring(Outbox.of(spool), error.generation)
        return True

    def _note_missing(self, recording: Recording, spool: Spool) -> None:
        """Add the entry `missing` to the timeline, once, when this node has begun a take."""
        while not self._node.stopping.wait(_LOOK_SECONDS) and not is_being_finished(spool):
            try:
                if note_missing(spool, self._node.records, recording.id):
                    return
            except (redis.RedisError, FarmError, OSError) as error:
                logger.debug("cannot note in the timeline yet that a part is missing: %s", error)

    def _senders(
        self, recording: Recording, sealed: dict[str, str], outbox: Outbox, sources: list[_Source]
    ) -> list[Sender]:
        """One sender for each file and each place that takes parts."""
        return [
            sender
            for source in sources
            for transfer in recording.transfers
            if (sender := self._sender(recording, transfer.target, sealed, outbox, source)) is not None
        ]

    def _sender(
        self, recording: Recording, target: str, sealed: dict[str, str], outbox: Outbox, source: _Source
    ) -> Sender | None:
        try:
            place = self._place(recording, target, sealed.get(target), source.name)
        except (StorageError, SettingsError) as error:
            # The transfer at the end reports it.
            logger.warning("cannot upload parts to %s: %s", target, error.message)
            return None
        # Only the head of the main file can be padded to whole parts.
        if place is None or (place.rules.same_size and source.name is not None):
            return None
        part_bytes = part_bytes_of(recording, format_of(recording).max_bitrate, place.rules)
        is_mine = partial(self._node.ownership.is_mine, recording.id)
        reopened = partial(self._reopened, recording, target, source.name)
        key = target if source.name is None else export_key(target, source.name)
        has_hole = bool((read_restored(outbox) or NOTHING_RESTORED).hole_end)
        return Sender(
            *(outbox, key, place, part_bytes, source.identity, source.read, is_mine, reopened),
            is_only_copy=has_hole and key == STORE,
        )

    def _place(self, recording: Recording, target: str, sealed: str | None, name: str | None) -> Place | None:
        return place_of(recording, target, sealed, self._settings, self._node.host_keys, name)

    def _reopened(self, recording: Recording, target: str, name: str | None) -> Place | None:
        """The place with the credentials that the customer sent last; None if it cannot be opened."""
        try:
            sealed = self._node.records.sealed_target(recording.id, target)
            return self._place(recording, target, sealed, name)
        except (redis.RedisError, FarmError) as error:
            logger.debug("cannot get newer credentials of %s: %s", target, error)
            return None
