"""One attempt of a transfer: uploads a recording's files to one target, the store or a customer's storage.

It resumes the last attempt. Its result is written to the record, and a failure enqueues the next attempt.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.jobs.time_limit import TimeLimitError
from recording_farm.farm.progressive.exports import grown_file
from recording_farm.farm.progressive.following import cut_result
from recording_farm.farm.progressive.names import is_main_file
from recording_farm.farm.progressive.places import Place, place_at_customer, place_in_store
from recording_farm.farm.progressive.sending import finish_ahead
from recording_farm.farm.progressive.sent_parts import export_key, forget_ahead, read_ahead
from recording_farm.farm.queues.transfers import MIN_TRANSFER_RATE, enqueue_transfer
from recording_farm.farm.recording.files import is_in_store
from recording_farm.farm.recording.model import FinishedFile, Recording
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.targets import key_at, open_target
from recording_farm.farm.recording.transfers import (
    OVER,
    STORE,
    Transfer,
    TransferState,
    arrived,
    failed,
    may_give_up,
    transfer_to,
    tried,
)
from recording_farm.farm.spool.finished_file import is_intact
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.storage.backend import Checkpoint, StorageBackend, StorageError, StoredObject
from recording_farm.farm.storage.content_types import content_type
from recording_farm.farm.storage.customer import open_backend
from recording_farm.farm.storage.host_keys import HostKeys
from recording_farm.farm.storage.store import Store, open_store
from recording_farm.farm.storage.targets import SftpTarget, Target
from recording_farm.farm.telemetry.counts import Counts, transfer_increments
from recording_farm.farm.telemetry.recording_log import NOT_FOR_CLIENTS

logger = logging.getLogger(__name__)

Put = Callable[[Path, FinishedFile, Checkpoint], StoredObject]
"""Uploads one file to a transfer's target."""


@dataclass(frozen=True)
class _Way:
    """How files are uploaded to a target: as a whole, or in parts if it accepts them."""

    put: Put
    place: Callable[[str], Place | None]
    """The place of a file of this name; None if it is not uploaded there in parts."""


def run_transfer(recording_id: UUID, target: str, settings: Settings, client: redis.Redis) -> None:
    """Try a transfer once, if it is due and not running on this node; a failure enqueues the next attempt.

    Raises NotFoundError when the recording was deleted, redis.RedisError.
    """
    records = Records(client)
    recording = records.get(None, recording_id)
    if not _is_due(transfer_to(recording.transfers, target)):
        return
    outbox = Outbox.of(spool_of(recording, settings))
    with outbox.claimed(f"transfer-{target}") as mine:
        recording = records.get(None, recording_id)
        before = transfer_to(recording.transfers, target)
        if not mine or before is None or not _is_due(before):
            return
        begun = tried(before, now())
        records.set_transfer(recording_id, begun)
        try:
            placed = _upload_in_time(recording, target, outbox, settings, client)
        except StorageError as error:
            after = failed(begun, error, now(), may_give_up=may_give_up(recording.transfers, target))
            logger.warning("recording %s to %s: %s (%s)", recording_id, target, error.message, after.state)
        else:
            after = arrived(begun, placed)
            logger.info("recording %s was uploaded to %s", recording_id, target)
            logger.info("it is at %s", placed.location, extra=NOT_FOR_CLIENTS)
        if after.state is TransferState.WAITING:
            # First: if this process died in between, the transfer would never be retried.
            enqueue_transfer(client, recording, target, settings.node, at=after.next_try)
        records.set_transfer(recording_id, after)
        Counts(client).add(transfer_increments(after))


def _is_due(transfer: Transfer | None) -> bool:
    return (
        transfer is not None
        and transfer.state not in OVER
        and (transfer.next_try is None or transfer.next_try <= now())
    )


def _upload_in_time(
    recording: Recording, target: str, outbox: Outbox, settings: Settings, client: redis.Redis
) -> StoredObject:
    try:
        return _upload(recording, target, outbox, settings, client)
    except TimeLimitError:
        text = f"the upload was slower than {MIN_TRANSFER_RATE >> 10} KiB/s"
        raise StorageError("too_slow", text) from None


def _upload(
    recording: Recording, target: str, outbox: Outbox, settings: Settings, client: redis.Redis
) -> StoredObject:
    """Upload all files that are not uploaded yet; returns the main one. Raises StorageError."""
    try:
        store = open_store(settings)
        if target == STORE:
            place = partial(place_in_store, store, recording, settings)
            return _put_all(recording, target, outbox, store, _Way(_into_store(recording, store), place))
        customers = _target_of(recording, target, settings, client)
        host_keys = HostKeys(client)
        host_key = None
        if isinstance(customers, SftpTarget):
            host_key = host_keys.known(recording.organization_id, customers)
        backend = open_backend(customers, settings.address_rule, host_key=host_key)
        way = _Way(
            _into(backend, customers, recording), partial(place_at_customer, backend, customers, recording)
        )
        placed = _put_all(recording, target, outbox, store, way)
        if isinstance(customers, SftpTarget) and backend.host_key is not None:
            host_keys.keep(recording.organization_id, customers, backend.host_key)
        return placed
    except SettingsError as error:
        raise StorageError("farm_settings", error.message, lasting=True) from None
    except OSError as error:
        raise StorageError("failed", f"the node's disk failed: {error.strerror}") from error


def _put_all(recording: Recording, target: str, outbox: Outbox, store: Store, way: _Way) -> StoredObject:
    """Upload each file in turn, the manifest last: a stored manifest means that all files are stored."""
    placed = [_put_one(recording, file, target, outbox, store, way) for file in recording.files]
    # A later upload to the same target starts over.
    outbox.forget_arrivals(target)
    return placed[0]


def _put_one(
    recording: Recording, file: FinishedFile, target: str, outbox: Outbox, store: Store, way: _Way
) -> StoredObject:
    before = outbox.arrival(target, file)
    if before is not None:
        return before
    source = outbox.path_of(file)
    # Redis may have lost its last writes, after which the file was stored and removed here.
    if not source.exists() and (target == STORE or is_in_store(recording)):
        _fetch(recording, file, outbox, store)
    placed = _finish_parts(recording, file, target, outbox, way)
    if placed is None:
        placed = way.put(source, file, outbox.checkpoint(target, file))
    outbox.note_arrival(target, file.kind, placed)
    forget_ahead(outbox, _key(recording, file, target))
    return placed


def _finish_parts(
    recording: Recording, file: FinishedFile, target: str, outbox: Outbox, way: _Way
) -> StoredObject | None:
    """Complete the upload that began during the recording; None if there is none."""
    key = _key(recording, file, target)
    if read_ahead(outbox, key) is None:
        return None
    body_bytes, identity = 0, ""
    if key == target:
        if (cut := cut_result(outbox)) is not None:
            body_bytes, identity = cut.body_bytes, cut.identity
    elif (grown := grown_file(outbox, file.name)) is not None:
        body_bytes, identity = grown.body.size, grown.identity
    # `finish_ahead` drops parts of another body.
    return finish_ahead(outbox, key, way.place(file.name), outbox.path_of(file), body_bytes, identity)


def _key(recording: Recording, file: FinishedFile, target: str) -> str:
    """The name of the receipts for a file."""
    is_cut = file.name == recording.output_file_name and is_main_file(recording)
    return target if is_cut else export_key(target, file.name)


def _fetch(recording: Recording, file: FinishedFile, outbox: Outbox, store: Store) -> None:
    """Download a file from the store; concurrent uploads share it."""
    source = outbox.path_of(file)
    with outbox.fetching():
        if source.exists():
            return
        store.fetch(recording.id, file.name, source)
        if not is_intact(source, file):
            source.unlink()
            raise StorageError("damaged", f"{file.name} is damaged in the store", lasting=True)


def _into_store(recording: Recording, store: Store) -> Put:
    def put(source: Path, file: FinishedFile, checkpoint: Checkpoint) -> StoredObject:
        return store.put(recording.id, source, file.name, checkpoint)

    return put


def _into(backend: StorageBackend, target: Target, recording: Recording) -> Put:
    def put(source: Path, file: FinishedFile, checkpoint: Checkpoint) -> StoredObject:
        key = key_at(target, recording, file.name)
        return backend.upload(source, key, checkpoint, content_type(file.name))

    return put


def _target_of(recording: Recording, name: str, settings: Settings, client: redis.Redis) -> Target:
    """The customer's storage with its keys. Raises StorageError when the keys have been deleted."""
    sealed = Records(client).sealed_target(recording.id, name)
    if sealed is None:
        raise StorageError(
            "no_keys",
            "the farm no longer has the keys of this storage; upload again with a storage_config",
            lasting=True,
        )
    sealer = Sealer(load_secret_key(settings))
    return open_target(sealer, recording.id, name, sealed)
