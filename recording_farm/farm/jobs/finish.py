"""The RQ job that finishes a recording: it cuts the takes into files and starts their uploads.

Safe to run again after a crash, and by two workers at once.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import redis
from pydantic import JsonValue

from recording_farm.encoder.cut.audio_export import export_audio
from recording_farm.encoder.cut.growing_audio import GrownFile
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.errors import NothingRecordedError
from recording_farm.encoder.journal import Journal
from recording_farm.encoder.media.probe import Media, probe
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.errors import NotFoundError
from recording_farm.farm.evidence.directory import evidence_dir
from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.jobs.transfer_attempt import run_transfer
from recording_farm.farm.progressive.exports import grown_file
from recording_farm.farm.progressive.following import CLAIM, end_takes
from recording_farm.farm.progressive.loss import note_missing
from recording_farm.farm.progressive.lost_parts import finish_whole_cut
from recording_farm.farm.progressive.names import audio_name
from recording_farm.farm.progressive.replica import NO_REPLICA, replica_store
from recording_farm.farm.progressive.restore import NotRestorableError, restore_if_behind
from recording_farm.farm.progressive.restored import (
    NOTHING_RESTORED,
    give_up_restoring,
    is_restoring,
    read_restored,
)
from recording_farm.farm.progressive.sending import drop_leftovers
from recording_farm.farm.queues.transfers import enqueue_finish, enqueue_transfer
from recording_farm.farm.recording.findings import Tally, total_tally
from recording_farm.farm.recording.model import (
    Failure,
    FileKind,
    Recording,
    Status,
    TakeInFile,
    TimelineEntry,
)
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.timeline import (
    NOTHING,
    missing_since_loss_of,
    other_keeper,
    recorded_elsewhere,
)
from recording_farm.farm.recording.transfers import OVER, STORE
from recording_farm.farm.recovery.lost_nodes import LOST
from recording_farm.farm.spool.finished_file import DescribedFile, describe_grown
from recording_farm.farm.spool.interactive_archive import make_archive
from recording_farm.farm.spool.manifest import manifest_path, read_manifest, write_manifest
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.set_aside import has_recorded, is_superseded, set_aside
from recording_farm.farm.spool.spool import Spool, spool_of
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import open_store
from recording_farm.farm.telemetry.recording_log import NOT_FOR_CLIENTS, logging_to

logger = logging.getLogger(__name__)

_UNREADABLE: Final = timedelta(minutes=1)
"""How long a replica that cannot be read is tried after the end, before the file is made without it."""


def finish(recording_id: str) -> None:
    """Cut the takes of an ended recording, enqueue its transfers, and upload to the store in this job.

    Raises OSError or CutError when the disk fails, StorageError when the store is needed and unavailable; RQ
    then retries.
    """
    settings = load_settings()
    with connect(settings.redis_address) as client:
        try:
            recording = Records(client).get(None, recording_id)
        except NotFoundError:
            # It was deleted, or Redis has lost it; then its takes must stay.
            logger.error("recording %s does not exist; its spool is kept", recording_id)
            return
        with logging_to(evidence_dir(settings, recording_id)):
            _finish(recording, settings, client)


def _finish(recording: Recording, settings: Settings, client: redis.Redis) -> None:
    records = Records(client)
    spool = spool_of(recording, settings)
    if is_superseded(recording, settings):
        _set_aside(recording, spool, settings, records)
        return
    if recording.node not in {None, settings.node}:
        logger.info("recording %s belongs to another node now", recording.id)
        return
    if recording.status is not Status.UPLOADING:
        settle(recording.id, settings, client)
        return
    outbox = Outbox.of(spool)
    with outbox.claimed("finish") as mine:
        if not mine:
            logger.info("recording %s is being finished already", recording.id)
            return
        recording = records.get(None, recording.id)
        if not recording.files:
            try:
                recording = _make_files(recording, spool, outbox, records, settings)
            except NotRestorableError as error:
                if (keeper := other_keeper(recording, settings.node)) is not None:
                    _hand_back(recording, keeper, error, spool, records)
                    enqueue_finish(client, recording, keeper)
                elif _ended_for(recording) >= timedelta(seconds=settings.node_patience):
                    _fail(recording, error, spool, settings, records)
                else:
                    # An operator may correct the store or the secret meanwhile.
                    raise
                return
            except NothingRecordedError as error:
                _fail(recording, error, spool, settings, records)
                return
    waiting = [transfer.target for transfer in recording.transfers if transfer.state not in OVER]
    for target in waiting:
        if target != STORE:
            enqueue_transfer(client, recording, target, settings.node)
    if STORE in waiting:
        run_transfer(recording.id, STORE, settings, client)
    # Takes, and a cut that is no file, are deleted with the spool or a minute later: deleting hours of them
    # slows the uploads down.
    settle(recording.id, settings, client)


def _set_aside(recording: Recording, spool: Spool, settings: Settings, records: Records) -> None:
    if not has_recorded(spool, settings):
        return
    with Outbox.of(spool).claimed("finish") as mine:
        if mine:
            sealed = records.sealed_targets(recording.id)
            drop_leftovers(recording, sealed, Outbox.of(spool), settings)
        missed = seconds_missed(spool, recording, settings.node)
        directory = set_aside(recording, spool, settings) if mine else None
    if directory is not None:
        logger.warning("recording %s: this node's takes were set aside", recording.id)
        logger.warning("they are in %s", directory, extra=NOT_FOR_CLIENTS)
        fault = f"the node {settings.node} is back; its part of the recording was set aside there"
        if missed:
            fault += f" and has {missed:.1f} s that are not in the file"
        records.note(recording.id, TimelineEntry(event="fault", fault=fault, time=now()))


def _fail(recording: Recording, error: Exception, spool: Spool, settings: Settings, records: Records) -> None:
    """End a recording without a file."""
    logger.error("recording %s: %s", recording.id, error)
    has_no_takes = not spool.takes()
    # Before the state: once it is ERRORED, nothing handles the takes any more.
    _keep_broken(recording, spool, settings, records)
    failure = Failure(code="nothing_recorded", message=str(error))
    if has_no_takes and any(entry.event == "take_began" for entry in recording.timeline):
        # The disk with them may come back: then they are set aside.
        failure = LOST
    records.change_state(recording.id, Status.ERRORED, by=recording.node, error=failure)


def _ended_for(recording: Recording) -> timedelta:
    return now() - (recording.stopped_time or recording.invoked_time)


def _hand_back(
    recording: Recording, keeper: str, error: NotRestorableError, spool: Spool, records: Records
) -> None:
    """Have a recording whose replica is not usable wait for the node that has its takes."""
    logger.error("the replica is not usable, waiting for the node %s: %s", keeper, error.message)
    fault = f"its replica is not usable; the recording waits for the node {keeper}"
    records.note(recording.id, TimelineEntry(event="fault", fault=fault, time=now()))
    records.update(recording.id, node=keeper)
    spool.remove()


def seconds_missed(spool: Spool, recording: Recording, node: str) -> float:
    """How much of the part that the file lacks is on this node."""
    missing = missing_since_loss_of(recording.timeline, node)
    if missing is None:
        return 0.0
    begin_us, end_us = (round(moment.timestamp() * 1_000_000) for moment in missing)
    takes = [(journal.wall_us, journal.wall_us + spool.recorded_us(journal)) for journal in spool.journals()]
    overlaps = (min(end, end_us) - max(begin, begin_us) for begin, end in takes)
    return sum(max(0, overlap) for overlap in overlaps) / 1_000_000


def _keep_broken(recording: Recording, spool: Spool, settings: Settings, records: Records) -> None:
    """Set unreadable takes aside, for manual repair, and clear the spool."""
    drop_leftovers(recording, records.sealed_targets(recording.id), Outbox.of(spool), settings)
    if not any(take.path.stat().st_size for take in spool.takes()):
        spool.remove()
        return
    directory = set_aside(recording, spool, settings)
    logger.warning("recording %s: its takes were set aside", recording.id)
    logger.warning("they are in %s", directory, extra=NOT_FOR_CLIENTS)
    fault = f"no take was readable; they are set aside on the node {settings.node}"
    records.note(recording.id, TimelineEntry(event="fault", fault=fault, time=now()))


def _make_files(
    recording: Recording, spool: Spool, outbox: Outbox, records: Records, settings: Settings
) -> Recording:
    """Create a recording's files in its outbox, unless they exist, and add them to its record."""
    manifest = manifest_path(outbox.directory, recording)
    if not spool.takes():
        _fetch_manifest(recording, manifest, settings)
    finished = read_manifest(manifest)
    if finished is None:
        _restore(recording, spool, settings)
        _cut(recording, spool, manifest, settings)
        note_missing(spool, records, recording.id, is_over=True)
        finished = read_manifest(manifest)
        assert finished is not None
    return records.update(
        recording.id,
        files=finished.files,
        file_size=finished.files[0].size,
        recording_duration=round(finished.duration_us / 1_000_000),
        quality=finished.quality,
        takes=finished.takes,
    )


def _fetch_manifest(recording: Recording, manifest: Path, settings: Settings) -> None:
    """Download the manifest if the store has it: Redis may have lost its last writes.

    Raises StorageError when the store is unavailable.
    """
    if manifest.exists():
        return
    try:
        open_store(settings).fetch(recording.id, manifest.name, manifest)
    except StorageError as error:
        if error.reason != "not_found":
            raise


def _restore(recording: Recording, spool: Spool, settings: Settings) -> None:
    """Restore the replica of another node, unless that is done.

    Raises StorageError, and NotRestorableError if this node has no takes besides, or the replica may be
    readable in a minute.
    """
    outbox = Outbox.of(spool)
    if not is_restoring(outbox) and recorded_elsewhere(recording.timeline, spool.numbers()) is NOTHING:
        return
    store = replica_store(recording, settings)
    if store is None:
        return
    end_takes(outbox)
    with outbox.claimed_in_turn(CLAIM):
        try:
            restore_if_behind(spool, store, recording, settings)
        except NotRestorableError as error:
            is_given_up = (read_restored(outbox) or NOTHING_RESTORED).unusable == error.generation
            if not spool.takes() or not (is_given_up or _ended_for(recording) >= _UNREADABLE):
                raise
            logger.error("the replica of an earlier node is not usable: %s", error.message)
            give_up_restoring(outbox, error.generation)
        except StorageError as error:
            if error.reason not in NO_REPLICA:
                raise


def _cut(recording: Recording, spool: Spool, manifest: Path, settings: Settings) -> None:
    """Cut the takes into the files of a recording; the manifest is written last."""
    file = manifest.with_name(recording.output_file_name)
    cut = finish_whole_cut(recording, spool, settings)
    logger.info("cut %d takes into %s", cut.takes, cut.path.name)
    made = [_main_file(recording, cut, file, spool)]
    if recording.video_file and (name := audio_name(recording)) is not None:
        try:
            audio = _exported(recording, cut, file.with_name(name))
            made.append((describe_grown(audio.path, FileKind.AUDIO, audio.body), probe(audio.path)))
        except NothingRecordedError as error:
            # A recording that was killed right after its start may have frames but no audio.
            logger.warning("recording %s has no audio file: %s", recording.id, error)
    quality = quality_of(cut, spool.journals(), total_tally(spool.directory))
    write_manifest(manifest, recording, made, quality, takes_in(cut))


def _main_file(recording: Recording, cut: CutFile, file: Path, spool: Spool) -> tuple[DescribedFile, Media]:
    """The main file: the cut itself, or made from it, unless that was done during the recording."""
    kind = FileKind.VIDEO if recording.video_file else FileKind.AUDIO
    if cut.path == file:
        return describe_grown(file, kind, cut.checksums), probe(file)
    if recording.timed_texts:
        outbox = Outbox.of(spool)
        archive = grown_file(outbox, file.name) or make_archive(cut, spool.all_texts(), file)
        return describe_grown(file, kind, archive.body), probe(cut.path)
    audio = _exported(recording, cut, file)
    return describe_grown(file, kind, audio.body), probe(file)


def _exported(recording: Recording, cut: CutFile, file: Path) -> GrownFile:
    """The audio file, which may have been made during the recording."""
    assert recording.audio_file is not None
    return grown_file(Outbox(file.parent), file.name) or export_audio(cut.path, file, recording.audio_file)


def takes_in(file: CutFile) -> list[TakeInFile]:
    """The position of each take in a finished file."""
    return [
        TakeInFile(
            take=joint.take,
            start_ns=joint.start_ns,
            duration_ns=joint.end_ns - joint.start_ns,
            frames=joint.frames,
            frames_lost=joint.lost,
        )
        for joint in file.joints
        if joint.take is not None
    ]


def quality_of(file: CutFile, journals: Sequence[Journal], tally: Tally) -> dict[str, JsonValue]:
    """The `quality` of a finished file, with the monitor's tally.

    `speed` is that of the slowest take, null if unknown; `encoder_steps` is the highest of all takes.
    """
    speeds = [journal.speed for journal in journals if journal.speed]
    return {
        "frames_captured": file.frames,
        "frames_lost": file.lost,
        "frames_doubled": file.crowded,
        "takes": file.takes,
        "speed": min(speeds) if speeds else None,
        "encoder_steps": max((journal.step for journal in journals), default=0),
        "silent_seconds": round(sum(journal.silent_us for journal in journals) / 1e6, 1),
        **tally.as_json(),
    }
