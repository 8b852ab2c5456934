"""Sends the parts of a recording's file to one place while the file grows, and the rest at the end.

Each place has its own pace: a slow or failing one delays neither the recording nor the others. After the end
of the recording, the transfer sends the rest, from the finished file.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.progressive.following import end_takes
from recording_farm.farm.progressive.places import Place, place_of
from recording_farm.farm.progressive.replica import drop_replica
from recording_farm.farm.progressive.sent_parts import (
    Ahead,
    export_key,
    exports_ahead,
    forget_ahead,
    not_begun,
    read_ahead,
    save_ahead,
    targets_ahead,
    version_of_ahead,
)
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.storage.backend import StorageError, StoredObject
from recording_farm.farm.storage.backends.disk import read_at
from recording_farm.farm.storage.parts import NO_PARTS, UPLOAD_GONE, SentPart

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
_LEAST_WAIT: Final = 2.0
_MOST_WAIT: Final = 30.0
_MOST_LASTING_WAIT: Final = 300.0
"""Seconds before a retry; each failure doubles them. A lasting failure needs a change by the customer."""

_MOST_REFUSALS: Final = 3
"""After so many refusals, the transfer sends the whole file instead."""

_ABSENT: Final = {"unreachable", "timed_out", "too_slow"}
_LOGIN: Final = {"wrong_key", "expired_credentials", "no_keys", "wrong_host_key"}
_RETRIED: Final = _ABSENT | _LOGIN
"""Failures that are no refusals: the upload can be completed once the storage is back, or with other
credentials."""

Read = Callable[[int, int], bytes | None]
"""So many bytes of the body from an offset; None if the body has not got them yet."""


def claim_of(target: str) -> str:
    """The lock of the outbox that is held while parts are sent to a target."""
    return f"ahead-{target}"


class Sender(threading.Thread):
    """Sends parts to one place until it is stopped."""

    def __init__(
        self,
        outbox: Outbox,
        target: str,
        place: Place,
        part_bytes: int,
        identity: str,
        read: Read,
        is_mine: Callable[[], bool] = lambda: True,
        reopened: Callable[[], Place | None] = lambda: None,
        *,
        is_only_copy: bool = False,
    ) -> None:
        """Continue what an earlier process has sent of the body of this identity.

        For an export, `target` is its `export_key`. `is_mine` says whether this node still owns the
        recording; if not, another node sends the parts. `reopened` opens the place with the newest
        credentials, if it can. Receipts are never dropped if the parts are the only copy.
        """
        super().__init__(name=f"{target} of {outbox.directory.parent.name}", daemon=True)
        self.part_bytes = part_bytes
        self.takes_parts = True
        """False once the place has refused parts for good."""
        self._outbox = outbox
        self._target = target
        self._place = place
        self._nothing = not_begun(part_bytes, identity, place.rules)
        self._read = read
        self._is_mine = is_mine
        self._reopened = reopened
        self._is_only_copy = is_only_copy
        self._stopping = threading.Event()
        self._version: tuple[int, int] | None = None
        self._ahead: Ahead | None = None

    @property
    def target(self) -> str:
        """The name of the transfer."""
        return self._target

    def stop(self) -> None:
        """Send no further part."""
        self._stopping.set()

    def run(self) -> None:
        """See the class."""
        with self._outbox.claimed(claim_of(self._target)) as mine:
            if mine:
                self._send_all()

    def _send_all(self) -> None:
        wait = 0.0
        while not self._stopping.wait(max(wait, LOOK_SECONDS)):
            try:
                while not self._stopping.is_set() and self._send_next():
                    wait = 0.0
            except StorageError as error:
                level = logging.DEBUG if wait or error.reason == NO_PARTS else logging.WARNING
                logger.log(level, "cannot upload parts to %s now: %s", self._target, error.message)
                wait = min(max(_LEAST_WAIT, 2 * wait), _MOST_LASTING_WAIT if error.lasting else _MOST_WAIT)
                if error.reason in {NO_PARTS, UPLOAD_GONE} and not self._is_only_copy:
                    # A new upload starts, and sends everything that is cut by then.
                    forget_ahead(self._outbox, self._target)
                if error.reason == NO_PARTS and not self._is_only_copy:
                    self.takes_parts = False
                    return
                if error.reason in _LOGIN:
                    self._place = self._reopened() or self._place
            except OSError as error:
                logger.warning("cannot read parts for %s from the disk: %s", self._target, error)
                return

    def _receipts(self) -> Ahead | None:
        """The receipts. For a day they are a megabyte, so they are only read again after a change."""
        version = version_of_ahead(self._outbox, self._target)
        if version != self._version or version is None:
            self._version = version
            self._ahead = read_ahead(self._outbox, self._target)
        return self._ahead

    def _send_next(self) -> bool:
        """Send the next part; false if the body is too short for one, or another node may send it."""
        if not self._is_mine():
            return False
        ahead = self._receipts()
        if ahead is not None and ahead.identity != self._nothing.identity:
            _abort(self._place, self._target, ahead)
            forget_ahead(self._outbox, self._target)
            ahead = None
        upload = ahead or self._nothing
        part = upload.next_part
        data = self._read(upload.held_back + part.offset, part.size)
        if data is None:
            return False
        if ahead is None:
            ahead = replace(self._nothing, begun=self._place.begin())
            # Before the first part: nobody would abort an upload that is in no receipt.
            save_ahead(self._outbox, self._target, ahead)
        receipt = self._place.send(ahead.begun, part, data)
        save_ahead(self._outbox, self._target, replace(ahead, parts=(*ahead.parts, SentPart(part, receipt))))
        return True


def finish_ahead(
    outbox: Outbox,
    target: str,
    place: Place | None,
    file: Path,
    body_bytes: int,
    identity: str,
    *,
    is_only_copy: bool = False,
) -> StoredObject | None:
    """Send the rest of a finished file, whose body has `body_bytes`, and complete its upload.

    None if the upload was not begun, is gone, or is refused for good: the caller sends the whole file then.
    If the parts are the only copy, the upload is given up only when it is gone. Raises StorageError, OSError.
    """
    # Waits for the sender, which may be sending a part.
    with outbox.claimed_in_turn(claim_of(target)):
        ahead = read_ahead(outbox, target)
        if ahead is None or place is None:
            return None
        heads = ahead.head_parts(file.stat().st_size - body_bytes)
        if heads is None or ahead.identity != identity or ahead.body_bytes + ahead.held_back > body_bytes:
            # The cut was restarted, so its body may differ; or the upload began after the head was made.
            _abort(place, target, ahead)
            forget_ahead(outbox, target)
            return None
        try:
            head = [
                SentPart(part, place.send(ahead.begun, part, _read_at(file, part.offset, part.size)))
                for part in heads
            ]
            ahead = _send_rest(outbox, target, place, ahead, file, body_bytes)
            return place.finish(ahead.begun, [*head, *ahead.parts])
        except StorageError as error:
            is_gone = error.reason == UPLOAD_GONE or (error.reason == NO_PARTS and not is_only_copy)
            if not is_gone and (is_only_copy or not _is_refused_for_ever(outbox, target, ahead, error)):
                raise
            logger.warning("%s: %s; uploading the whole file instead", target, error.message)
            with suppress(StorageError):
                # Azure must drop the parts before the whole file is uploaded.
                place.abort(ahead.begun)
            forget_ahead(outbox, target)
            return None


def drop_ahead(outbox: Outbox, target: str, place: Place | None) -> None:
    """Drop the parts that a target has of a file that will not be finished. Raises StorageError."""
    with outbox.claimed_in_turn(claim_of(target)):
        ahead = read_ahead(outbox, target)
        if ahead is not None and place is not None:
            _abort(place, target, ahead)
        forget_ahead(outbox, target)


def drop_leftovers(
    recording: Recording, sealed: Mapping[str, str], outbox: Outbox, settings: Settings
) -> None:
    """Delete parts and replica of a recording whose file this node will not finish.

    If a storage fails, they stay until its lifecycle rule deletes them; in the store, until the next sweep.
    """
    if not outbox.directory.exists():
        return
    # Otherwise a process that follows the takes would wait for more, and hold the locks.
    end_takes(outbox)
    sent: list[tuple[str, str | None]] = [(target, None) for target in targets_ahead(outbox)]
    for target, name in [*sent, *exports_ahead(outbox)]:
        try:
            place = place_of(recording, target, sealed.get(target), settings, name=name)
            drop_ahead(outbox, target if name is None else export_key(target, name), place)
        except (StorageError, SettingsError) as error:
            logger.warning("parts of an upload to %s may be left behind: %s", target, error.message)
    try:
        drop_replica(outbox, recording, settings)
    except (StorageError, SettingsError) as error:
        logger.warning("a replica of the spool may be left behind in the store: %s", error.message)


def _is_refused_for_ever(outbox: Outbox, target: str, ahead: Ahead, error: StorageError) -> bool:
    """Count this refusal; whether the storage has now refused the upload too often."""
    if error.reason in _RETRIED:
        return False
    # Some servers have their own answer to an unknown upload, or refuse its parts for good.
    refused = replace(read_ahead(outbox, target) or ahead, refusals=ahead.refusals + 1)
    save_ahead(outbox, target, refused)
    return refused.refusals >= _MOST_REFUSALS


def _abort(place: Place, target: str, ahead: Ahead) -> None:
    """Drop the parts of an upload, if the key may. Raises StorageError if a retry may succeed."""
    try:
        place.abort(ahead.begun)
    except StorageError as error:
        if error.reason in _RETRIED:
            raise
        logger.warning("parts of an upload to %s may be left behind: %s", target, error.message)


def _send_rest(outbox: Outbox, target: str, place: Place, ahead: Ahead, file: Path, body_bytes: int) -> Ahead:
    """Send the body behind the parts that have arrived."""
    behind = file.stat().st_size - body_bytes + ahead.held_back
    while left := body_bytes - ahead.held_back - ahead.body_bytes:
        part = replace(ahead.next_part, offset=ahead.body_bytes)
        part = replace(part, size=min(left, part.size))
        receipt = place.send(ahead.begun, part, _read_at(file, behind + part.offset, part.size))
        ahead = replace(ahead, parts=(*ahead.parts, SentPart(part, receipt)))
        save_ahead(outbox, target, ahead)
    return ahead


def _read_at(file: Path, offset: int, size: int) -> bytes:
    with file.open("rb", buffering=0) as content:
        return read_at(content, offset, size)
