"""Finishes a file whose body is partly in the store only, in parts that another node sent.

The parts cannot be read before the upload is completed. So the store's copy is completed first, and fetched.
"""

import logging
from dataclasses import replace

from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.mux.checksums import BodyChecksums
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.progressive.following import finish_cut, forget_cut
from recording_farm.farm.progressive.names import cut_name
from recording_farm.farm.progressive.places import place_in_store
from recording_farm.farm.progressive.restored import Restored, read_restored, save_restored
from recording_farm.farm.progressive.sending import finish_ahead
from recording_farm.farm.progressive.sent_parts import forget_ahead, read_ahead
from recording_farm.farm.recording.model import FileKind, Recording
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.spool.finished_file import describe_grown, is_intact
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool
from recording_farm.farm.storage.backend import StorageError, StoredObject
from recording_farm.farm.storage.store import Store, open_store

logger = logging.getLogger(__name__)


def finish_whole_cut(recording: Recording, spool: Spool, settings: Settings) -> CutFile:
    """The file of all takes, like `finish_cut`, but with the bytes that are only in the store.

    If the store has lost them, the file has only the takes of this node. Raises StorageError, OSError, and
    the errors of `finish_cut`.
    """
    outbox = Outbox.of(spool)
    cut = finish_cut(spool, cut_name(recording), recording.meeting_id)
    restored = read_restored(outbox)
    if restored is None or not restored.hole_end or restored.identity != cut.identity:
        return cut
    store = open_store(settings)
    # An earlier attempt may have completed the upload.
    if not _fetch(store, recording, cut):
        placed = _finish(store, recording, outbox, cut, restored, settings)
        if placed is not None and _fetch(store, recording, cut):
            outbox.note_arrival(STORE, _kind(recording), placed)
        elif _fetch(store, recording, cut, is_any=True):
            # Another node completed the file, and was lost before it could report that.
            cut = replace(cut, checksums=BodyChecksums())
        else:
            logger.error("the store has lost the parts of another node; the file begins after them")
            cut.path.unlink(missing_ok=True)
            save_restored(outbox, replace(restored, hole_begin=0, hole_end=0, identity=""))
            forget_cut(spool)
            return finish_cut(spool, cut_name(recording), recording.meeting_id)
    forget_ahead(outbox, STORE)
    save_restored(outbox, replace(restored, hole_begin=0, hole_end=0))
    return cut


def _finish(
    store: Store,
    recording: Recording,
    outbox: Outbox,
    cut: CutFile,
    restored: Restored,
    settings: Settings,
) -> StoredObject | None:
    """Complete the store's copy; None if the store no longer has the parts."""
    ahead = read_ahead(outbox, STORE)
    if ahead is None or ahead.end < restored.hole_end:
        return None
    place = place_in_store(store, recording, settings)
    return finish_ahead(*(outbox, STORE, place, cut.path, cut.body_bytes, cut.identity), is_only_copy=True)


def _fetch(store: Store, recording: Recording, cut: CutFile, *, is_any: bool = False) -> bool:
    """Replace the file with a hole by the store's, if there is one. Raises StorageError, OSError.

    `is_any` accepts a file with other bytes, too.
    """
    name = cut.path.name
    wanted = describe_grown(cut.path, _kind(recording), cut.checksums, has_hole=True).file
    whole = cut.path.with_name(f".{name}.whole")
    try:
        store.fetch(recording.id, name, whole)
        if not (is_any or is_intact(whole, wanted)):
            return False
        whole.replace(cut.path)
    except StorageError as error:
        if error.reason != "not_found":
            raise
        return False
    finally:
        whole.unlink(missing_ok=True)
    return True


def _kind(recording: Recording) -> FileKind:
    return FileKind.VIDEO if recording.video_file else FileKind.AUDIO
