"""The program that makes HLS of a recording while it is recorded, and uploads it.

Like `farm.live.stream` it gets its order as a line of JSON, ends with its input, and says how far it is.
The playlist goes to a place after the segments that it names, so nobody finds one that is not there yet.
"""

import json
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final

import redis

from recording_farm.encoder.formats import AudioExport, Format
from recording_farm.encoder.live.follow import FollowedPacket, follow
from recording_farm.encoder.live.hls import (
    PLAYLIST_SUFFIX,
    HlsWriter,
    TimedText,
    read_timed_texts,
    segments_in,
    with_gaps,
)
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.db.clients import connect
from recording_farm.farm.errors import FarmError
from recording_farm.farm.live.stream import input_ended, say
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.targets import key_at, open_target
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.content_types import content_type
from recording_farm.farm.storage.customer import open_backend
from recording_farm.farm.storage.store import open_store
from recording_farm.farm.storage.targets import TARGET, Target

RETRY_SECONDS: Final = 1.0, 2.0, 5.0, 10.0
"""Between tries of one file; the last is that of all that follow."""

MAX_WAITING: Final = 450
"""Segments that wait for a place that is away: half an hour. Older ones will be missing there."""

CUSTOMERS: Final = "customers"
STORE_FAILED: Final = "the farm's own store does not take the files now; it is tried again"

Put = Callable[[Path], None]
"""Uploads one file to one place; raises StorageError."""


@dataclass(frozen=True)
class HlsSpec:
    """Which HLS to make, and where to upload it.

    Of the takes in the directory `spool`, `name.m3u8` and segments of so many `seconds` in `directory`.
    With a `window` only so many of the newest are kept, from now on. `texts` is the file of its timed texts.
    With the `recording` as JSON it is carried to the store, unless that keeps no copy, and to the customer's
    `target` (with its keys; `host_key` is what its SFTP server has shown before), which is kept for the
    `transfer` of that name.
    """

    spool: str
    fps: int
    audio_only: bool
    directory: str
    name: str
    seconds: int
    window: int | None = None
    texts: str | None = None
    recording: dict[str, Any] | None = None
    transfer: str | None = None
    target: dict[str, Any] | None = None
    host_key: str | None = None

    @property
    def format(self) -> Format:
        """As far as it matters to who follows."""
        return Format(fps=self.fps, audio_only=AudioExport() if self.audio_only else None)


def main() -> None:
    """Make HLS until the recording is over; exit when all of it is uploaded."""
    order = HlsSpec(**json.loads(sys.stdin.readline()))
    over = input_ended(sys.stdin)
    directory = Path(order.directory)
    puts = _places(order)
    reaper = SegmentReaper(len(puts))
    reporter = StatusReporter(list(puts))
    uploaders = [Uploader(name, put, directory / name, reaper, reporter) for name, put in puts.items()]
    is_made = _make(order, over, uploaders) or order.recording is None
    if not is_made:
        say(error="the recording ended before the first segment was made")
    complete = [uploader.end() for uploader in uploaders]
    if not (is_made and all(complete)):
        sys.exit(1)


def _make(order: HlsSpec, over: threading.Event, uploaders: Sequence["Uploader"]) -> bool:
    """Make segments until the recording is over; false if there is none."""

    def is_over() -> bool:
        return over.is_set() or any(uploader.has_died for uploader in uploaders)

    directory = Path(order.directory)
    texts = _Texts(Path(order.texts)) if order.texts else None
    writer: HlsWriter | None = None
    told: set[str] = set()
    reached = 0
    for streams, packets in follow(Path(order.spool), order.format, is_over, live=order.window is not None):
        if writer is None:
            writer = HlsWriter(
                directory,
                order.name,
                streams,
                seconds=order.seconds,
                window=order.window,
                with_texts=texts is not None,
            )
        for each in packets:
            if texts is not None:
                for text, time_us in texts.until(each):
                    writer.write_text(text, time_us)
            writer.write(each.packet, each.kind, each.time_us)
            reached = each.time_us
            if each.packet.is_keyframe and (each.kind == "video" or order.audio_only):
                _check_uploaders(uploaders)
                _tell_new(directory, order.name, told, uploaders)
    _check_uploaders(uploaders)
    if writer is not None:
        if texts is not None:
            for text in texts.left():
                writer.write_text(text, reached)
        writer.close()
        _tell_new(directory, order.name, told, uploaders)
    return bool(told)


def _check_uploaders(uploaders: Sequence["Uploader"]) -> None:
    """Exit, so that the program is restarted, if an uploader has died: its place would get nothing more."""
    if any(uploader.has_died for uploader in uploaders):
        sys.exit(1)


def _tell_new(directory: Path, name: str, told: set[str], uploaders: Sequence["Uploader"]) -> None:
    """Upload new segments, and report them."""
    playlist = directory / f"{name}{PLAYLIST_SUFFIX}"
    if not playlist.exists():
        return
    text = playlist.read_text()
    new = [segment for segment in segments_in(text) if segment not in told]
    ended = "#EXT-X-ENDLIST" in text
    if not new and not ended:
        return
    told.update(new)
    for uploader in uploaders:
        uploader.carry([directory / segment for segment in new], name + PLAYLIST_SUFFIX, text)
    say(segments=len(told), ended=ended)


class _Texts:
    """The timed texts of a recording, as they come."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._size = 0
        self._read = 0
        self._waiting: list[TimedText] = []

    def until(self, followed: FollowedPacket) -> list[tuple[str, int]]:
        """Those that come before a packet and have not been given yet, with their times in µs."""
        self._look()
        due = [each for each in self._waiting if _is_due(each, followed)]
        self._waiting = [each for each in self._waiting if not _is_due(each, followed)]
        return [(each.text, _time_of(each, followed)) for each in due]

    def left(self) -> list[str]:
        """Those behind the last packet."""
        self._look()
        return [each.text for each in self._waiting]

    def _look(self) -> None:
        try:
            size = self._file.stat().st_size
        except FileNotFoundError:
            # Nothing was said yet; or all is done, and the spool has been cleared.
            return
        if size != self._size:
            self._size = size
            texts = read_timed_texts(self._file)
            self._waiting += texts[self._read :]
            self._read = len(texts)


def _is_due(text: TimedText, followed: FollowedPacket) -> bool:
    return (text.take, text.us) <= (followed.take, followed.take_us)


def _time_of(text: TimedText, followed: FollowedPacket) -> int:
    if text.take != followed.take:
        return followed.time_us
    return max(0, followed.time_us - (followed.take_us - text.us))


class SegmentReaper:
    """Deletes a segment once it has arrived everywhere."""

    def __init__(self, places: int) -> None:
        """It is carried to so many."""
        self._places = places
        self._arrivals: Counter[Path] = Counter()
        self._lock = threading.Lock()

    def at_one(self, segment: Path) -> None:
        """It has arrived at one more place."""
        with self._lock:
            self._arrivals[segment] += 1
            if self._arrivals[segment] < self._places:
                return
            del self._arrivals[segment]
        segment.unlink(missing_ok=True)


class StatusReporter:
    """Reports the state of all places as that of one output, which fails while any place does."""

    def __init__(self, names: Sequence[str]) -> None:
        """They are called so."""
        self._missing = set(names)
        self._errors: dict[str, str] = {}
        self._lock = threading.Lock()

    def arrived(self, name: str) -> None:
        """A playlist, and what it names, has arrived at a place."""
        with self._lock:
            self._missing.discard(name)
            self._errors.pop(name, None)
            if self._errors:
                say(error=next(iter(self._errors.values())))
            elif not self._missing:
                say(arrived=True)

    def failed(self, name: str, error: str) -> None:
        """A place does not take what is carried to it."""
        with self._lock:
            # What is the matter with the farm's own store is for its log and not for clients.
            shown = self._errors[name] = STORE_FAILED if name == STORE else error
            say(error=shown, failed=True, reason=error)


class Uploader:
    """Uploads files to one place, one after the other, each until the place accepts it.

    Of what waits only the newest is kept, when a place is away for long.
    """

    def __init__(
        self, name: str, put: Put, outgoing: Path, reaper: SegmentReaper, reporter: StatusReporter
    ) -> None:
        """`outgoing` is a directory of its own, for playlists on their way."""
        self._name = name
        self._put = put
        self._reaper = reaper
        self._reporter = reporter
        self._outgoing = outgoing
        self._changed = threading.Condition()
        self._waiting: deque[Path] = deque()
        self._playlist: tuple[str, str] | None = None
        self._lost: set[str] = set()
        self._ending = False
        self.has_died = False
        """By a defect of ours."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        outgoing.mkdir()
        self._thread.start()

    def carry(self, segments: list[Path], name: str, playlist: str) -> None:
        """Carry segments, then the playlist that names them, of which this is the text."""
        with self._changed:
            self._waiting += segments
            self._playlist = name, playlist
            given_up = [self._waiting.popleft() for _ in range(len(self._waiting) - MAX_WAITING)]
            self._lost |= {segment.name for segment in given_up}
            self._changed.notify()
        for segment in given_up:
            self._reaper.at_one(segment)

    def end(self) -> bool:
        """Wait until everything has arrived, and say whether it has.

        Whoever started the program ends it when that takes too long.
        """
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()
        return not self.has_died and not self._lost

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._work(*batch)
        except Exception:  # noqa: BLE001 - the program ends by it, and is begun anew
            self.has_died = True
            traceback.print_exc()

    def _next(self) -> tuple[list[Path], str, str] | None:
        """What has come meanwhile; None when nothing more will."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending or self._playlist is not None)
            if self._playlist is None:
                return None
            batch = list(self._waiting), self._playlist[0], with_gaps(self._playlist[1], self._lost)
            self._waiting.clear()
            self._playlist = None
            return batch

    def _work(self, segments: list[Path], name: str, playlist: str) -> None:
        for segment in segments:
            self._upload_until_accepted(segment)
            self._reaper.at_one(segment)
        # A file of its own: a place may keep what it gets as a second name of it.
        copy = self._outgoing / name
        copy.unlink(missing_ok=True)
        copy.write_text(playlist)
        self._upload_until_accepted(copy)
        self._reporter.arrived(self._name)

    def _upload_until_accepted(self, file: Path) -> None:
        pauses = chain(RETRY_SECONDS, repeat(RETRY_SECONDS[-1]))
        while True:
            try:
                self._put(file)
                return
            except StorageError as error:
                self._reporter.failed(self._name, error.message)
                time.sleep(next(pauses))


def _places(order: HlsSpec) -> dict[str, Put]:
    if order.recording is None:
        return {}
    settings = load_settings()
    recording = Recording.model_validate(order.recording)
    puts = {STORE: _store_of(recording, settings, Path(order.directory))} if recording.keep_copy else {}
    if order.target is not None:
        target = TARGET.validate_json(json.dumps(order.target))
        puts[CUSTOMERS] = customers_put(recording, target, order, settings)
    return puts


def _store_of(recording: Recording, settings: Settings, directory: Path) -> Put:
    store = open_store(settings)
    checkpoint = Checkpoint(directory / ".store.checkpoint")

    def put(file: Path) -> None:
        store.put(recording.id, file, file.name, checkpoint)

    return put


def customers_put(recording: Recording, target: Target, order: HlsSpec, settings: Settings) -> Put:
    """Carries files to the customer's storage, with the keys that are kept for it once these have expired."""
    place = open_backend(target, settings.address_rule, host_key=order.host_key)
    checkpoint = Checkpoint(Path(order.directory) / ".customers.checkpoint")

    def put(file: Path) -> None:
        nonlocal place
        try:
            place.upload(file, key_at(target, recording, file.name), checkpoint, content_type(file.name))
        except StorageError as error:
            if error.final and order.transfer is not None:
                # The client may have given new keys by now, with an API call.
                kept = _kept_target(recording, order.transfer, settings)
                place = open_backend(kept or target, settings.address_rule, host_key=order.host_key)
            raise

    return put


def _kept_target(recording: Recording, name: str, settings: Settings) -> Target | None:
    """The customer's storage with the keys that are kept now; None if nobody can tell."""
    try:
        with connect(settings.redis_address) as client:
            sealed = Records(client).sealed_target(recording.id, name)
            return (
                open_target(Sealer(load_secret_key(settings)), recording.id, name, sealed) if sealed else None
            )
    except (redis.RedisError, FarmError) as error:
        print(f"the keys of {name} cannot be looked up: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    main()
