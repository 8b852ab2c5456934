"""The files of a recording: their names, where they are, how long they are kept, and their deletion."""

import logging
import re
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import PurePosixPath

from recording_farm.farm.recording.model import FileKind, FinishedFile, Recording, Status
from recording_farm.farm.recording.outputs import Output, OutputKind
from recording_farm.farm.recording.transfers import STORE, TransferState
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import Store

logger = logging.getLogger(__name__)


class FilesState(StrEnum):
    """Whether the farm's own store has the files of a recording."""

    PENDING = "PENDING"
    """The recording has not ended, or its files are not uploaded everywhere yet."""
    KEPT = "KEPT"
    """The store has the files; `files_expire_at` says until when."""
    EXPIRED = "EXPIRED"
    """The store deleted the files after the retention period (FARM_RETENTION)."""
    NONE = "NONE"
    """The recording ended without a file, or its files are only in the customer's storage."""


def files_state(recording: Recording) -> FilesState:
    """Whether the farm's own store has, will have or had the files of a recording."""
    if recording.status is Status.UPLOADED:
        if not has_been_stored(recording):
            return FilesState.NONE
        return FilesState.EXPIRED if recording.expired_time is not None else FilesState.KEPT
    return FilesState.NONE if recording.status is Status.ERRORED else FilesState.PENDING


def files_expire_at(recording: Recording, retention: int) -> datetime | None:
    """When the store deletes the files of a recording, after `retention` seconds; 0 is for ever.

    None if never, if there are no files in the store, or if they were deleted already.
    """
    uploaded = (entry.time for entry in recording.timeline if entry.status is Status.UPLOADED)
    kept_since = next(uploaded, None)
    if not retention or kept_since is None or files_state(recording) is not FilesState.KEPT:
        return None
    return (kept_since + timedelta(seconds=retention)).replace(microsecond=0)


def file_of(recording: Recording, kind: FileKind) -> FinishedFile | None:
    """The recording's file of a kind."""
    return next((file for file in recording.files if file.kind is kind), None)


def is_in_store(recording: Recording) -> bool:
    """Whether the store has the recording's files now."""
    return recording.expired_time is None and has_been_stored(recording)


def has_been_stored(recording: Recording) -> bool:
    """Whether the recording's files were uploaded to the store; they may have expired since."""
    return any(
        transfer.target == STORE and transfer.state is TransferState.DONE for transfer in recording.transfers
    )


def playlist_name(recording: Recording) -> str:
    """The name of the playlist of a recording's HLS output; `segment_name` are the segments'."""
    return PurePosixPath(recording.output_file_name).with_suffix(".m3u8").name


def segment_name(recording: Recording, number: int) -> str:
    """The name of a segment of a recording's HLS output, counted from 0."""
    return f"{PurePosixPath(recording.output_file_name).stem}-{number:05d}.ts"


_NOT_FILE_NAME = re.compile(r"[^A-Za-z0-9_-]+")


_MEETING_ID_IN_NAME = 100


def output_file_name(prefix: str | None, meeting_id: str, invoked_time: datetime, suffix: str) -> str:
    """The finished file's name, `{prefix_}{meeting_id}_{unix_ms}.mp4` for instance.

    Whatever the meeting is called, the result is one plain file name: letters, digits, `_` and `-`, one dot,
    and short enough for every file system.
    """
    milliseconds = int(invoked_time.timestamp() * 1000)
    meeting = _NOT_FILE_NAME.sub("_", meeting_id)[:_MEETING_ID_IN_NAME]
    parts = [part for part in (prefix, meeting, str(milliseconds)) if part]
    # A leading dash would be read as an option by the programs that get the name as an argument.
    return "_".join(parts).lstrip("-") + suffix


def delete_files(store: Store, recording: Recording) -> None:
    """Delete a recording's files from the store; harmless if they are not there. Raises StorageError."""
    _delete_unfinished(store, recording)
    if is_in_store(recording):
        for file in recording.files:
            store.delete(recording.id, file.name)
    for output in recording.outputs:
        if output.kind is OutputKind.HLS and recording.keep_copy and recording.expired_time is None:
            _delete_hls(store, recording, output)


def _delete_unfinished(store: Store, recording: Recording) -> None:
    """Delete what was stored while the recording ran: small objects, and uploads in parts."""
    try:
        store.delete_spool(recording.id)
        for upload in store.unfinished_parts(recording.id):
            store.abort_parts(upload.recording_id, upload.name, upload.begun)
    except StorageError as error:
        # A key that may not list stores nothing before the end of a recording.
        if error.reason not in {"no_permission", "no_parts"}:
            raise
        logger.info("recording %s: the store's key may not list: %s", recording.id, error.message)


def _delete_hls(store: Store, recording: Recording, output: Output) -> None:
    store.delete(recording.id, playlist_name(recording))
    # One more than it has told of: it may have died in between.
    for number in range(output.segments + 1):
        store.delete(recording.id, segment_name(recording, number))
