"""The process of each node that follows its recordings: it cuts and uploads them while they are recorded.

It reads the spool and needs no queue. When it dies, it is started again and continues; when it is away, the
jobs that finish recordings do its work.
"""

import logging
import threading
from pathlib import Path
from typing import Final

from recording_farm.encoder.errors import MediaError, NothingRecordedError
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.host.processes import stop_event
from recording_farm.farm.progressive.following import CLAIM, Following, StoppedError, is_being_finished
from recording_farm.farm.progressive.names import cut_name, is_main_file
from recording_farm.farm.progressive.places import place_of
from recording_farm.farm.progressive.sending import Sender
from recording_farm.farm.progressive.sent_parts import part_bytes_of
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.record_copy import saved_record
from recording_farm.farm.spool.spool import Spool, spools
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.telemetry.logs import about

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.5
"""Between two looks for new recordings; no event tells of a new directory that would not cost more."""

_RETRY_LOOKS: Final = 20
"""So many looks after a failure, another try begins."""

_END_SECONDS: Final = 10
"""Time to stop; what is not cut by then is cut by others."""


def run_progressive(settings: Settings) -> None:
    """Follow the recordings of this node until SIGTERM."""
    stopping = stop_event(within=_END_SECONDS)
    followers: dict[str, _Follower] = {}
    while not stopping.wait(_LOOK_SECONDS):
        present = {directory.name: directory for directory in spools(settings.spool_dir)}
        for name in followers.keys() - present.keys():
            del followers[name]
        for name, directory in present.items():
            follower = followers.setdefault(name, _Follower(directory, settings, stopping))
            follower.run_if_due()
    for follower in followers.values():
        follower.join()


class _Follower:
    """Follows one recording in a thread, and again after a failure."""

    def __init__(self, directory: Path, settings: Settings, stopping: threading.Event) -> None:
        self._directory = directory
        self._settings = settings
        self._stopping = stopping
        self._thread: threading.Thread | None = None
        self._looks_until_due = 0

    def run_if_due(self) -> None:
        """Begin, if nobody follows it and it runs."""
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
            except (MediaError, OSError) as error:
                logger.warning("recording %s is not cut while it runs: %s", self._directory.name, error)

    def _follow(self) -> None:
        saved = saved_record(self._directory)
        if saved is None:
            return
        recording, sealed = saved
        spool = Spool(self._directory, format_of(recording))
        if is_being_finished(spool) or not spool.numbers():
            return
        outbox = Outbox.of(spool)
        with outbox.claimed(CLAIM) as mine:
            if not mine:
                return
            name = cut_name(recording)
            following = Following(spool, name, recording.meeting_id, self._stopping.is_set)
            senders = self._senders(recording, sealed, outbox, following) if is_main_file(recording) else []
            try:
                for sender in senders:
                    sender.start()
                following.run()
            finally:
                for sender in senders:
                    sender.stop()

    def _senders(
        self, recording: Recording, sealed: dict[str, str], outbox: Outbox, following: Following
    ) -> list[Sender]:
        """A sender for each place that takes parts."""
        senders = []
        for transfer in recording.transfers:
            try:
                place = place_of(recording, transfer.target, sealed.get(transfer.target), self._settings)
            except (StorageError, SettingsError) as error:
                # The transfer at the end reports it.
                logger.warning("%s takes no parts: %s", transfer.target, error.message)
                continue
            if place is not None:
                part_bytes = part_bytes_of(recording, format_of(recording).max_bitrate, place.rules)
                read = following.read_body
                senders.append(Sender(outbox, transfer.target, place, part_bytes, following.identity, read))
        return senders
