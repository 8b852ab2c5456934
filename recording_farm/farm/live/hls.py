"""The program that makes HLS of a running recording and uploads it.

Like `farm.live.stream`, it reads its spec as a line of JSON, stops at the end of its input, and reports its
progress. A playlist is uploaded after its segments, so clients never see a missing segment.
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
"""Pauses between attempts for one file; the last one repeats."""

MAX_WAITING: Final = 450
"""Segments queued for an unavailable target: half an hour. Older ones are dropped and missing there."""

CUSTOMERS: Final = "customers"
STORE_FAILED: Final = "the farm's own store does not take the files now; it is tried again"

Put = Callable[[Path], None]
"""Uploads one file to one target; raises StorageError."""


@dataclass(frozen=True)
class HlsSpec:
    """The HLS to make, and its upload targets.

    Input are the takes in the directory `spool`; output are `name.m3u8` and segments of `seconds` in
    `directory`. With a `window`, only that many of the newest segments are kept, starting live. `texts` is
    the file of timed texts. With a `recording` (as JSON), files are uploaded to the store, unless it keeps no
    copy, and to the customer's `target`, which belongs to the `transfer` of that name. `host_key` is the
    known fingerprint of its SFTP server.
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
        """The format, as far as `follow` needs it."""
        return Format(fps=self.fps, audio_only=AudioExport() if self.audio_only else None)


def main() -> None:
    """Make HLS until the recording ends; exit when everything is uploaded."""
    spec = HlsSpec(**json.loads(sys.stdin.readline()))
    over = input_ended(sys.stdin)
    directory = Path(spec.directory)
    puts = _targets(spec)
    reaper = SegmentReaper(len(puts))
    reporter = StatusReporter(list(puts))
    uploaders = [Uploader(name, put, directory / name, reaper, reporter) for name, put in puts.items()]
    is_made = _make(spec, over, uploaders) or spec.recording is None
    if not is_made:
        say(error="the recording ended before the first segment was made")
    complete = [uploader.end() for uploader in uploaders]
    if not (is_made and all(complete)):
        sys.exit(1)


def _make(spec: HlsSpec, over: threading.Event, uploaders: Sequence["Uploader"]) -> bool:
    """Make segments until the recording ends; false if there are none."""

    def is_over() -> bool:
        return over.is_set() or any(uploader.has_died for uploader in uploaders)

    directory = Path(spec.directory)
    texts = _Texts(Path(spec.texts)) if spec.texts else None
    writer: HlsWriter | None = None
    reported: set[str] = set()
    reached = 0
    for streams, packets in follow(Path(spec.spool), spec.format, is_over, live=spec.window is not None):
        if writer is None:
            writer = HlsWriter(
                directory,
                spec.name,
                streams,
                seconds=spec.seconds,
                window=spec.window,
                with_texts=texts is not None,
            )
        for each in packets:
            if texts is not None:
                for text, time_us in texts.until(each):
                    writer.write_text(text, time_us)
            writer.write(each.packet, each.kind, each.time_us)
            reached = each.time_us
            if each.packet.is_keyframe and (each.kind == "video" or spec.audio_only):
                _check_uploaders(uploaders)
                _upload_new(directory, spec.name, reported, uploaders)
    _check_uploaders(uploaders)
    if writer is not None:
        if texts is not None:
            for text in texts.left():
                writer.write_text(text, reached)
        writer.close()
        _upload_new(directory, spec.name, reported, uploaders)
    return bool(reported)


def _check_uploaders(uploaders: Sequence["Uploader"]) -> None:
    """Exit, so that the program is restarted, if an uploader has died."""
    if any(uploader.has_died for uploader in uploaders):
        sys.exit(1)


def _upload_new(directory: Path, name: str, reported: set[str], uploaders: Sequence["Uploader"]) -> None:
    """Upload new segments, and report them."""
    playlist = directory / f"{name}{PLAYLIST_SUFFIX}"
    if not playlist.exists():
        return
    text = playlist.read_text()
    new = [segment for segment in segments_in(text) if segment not in reported]
    ended = "#EXT-X-ENDLIST" in text
    if not new and not ended:
        return
    reported.update(new)
    for uploader in uploaders:
        uploader.add([directory / segment for segment in new], name + PLAYLIST_SUFFIX, text)
    say(segments=len(reported), ended=ended)


class _Texts:
    """The timed texts of a running recording."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._size = 0
        self._read = 0
        self._waiting: list[TimedText] = []

    def until(self, followed: FollowedPacket) -> list[tuple[str, int]]:
        """The unread texts up to a packet, with their times in µs."""
        self._look()
        due = [each for each in self._waiting if _is_due(each, followed)]
        self._waiting = [each for each in self._waiting if not _is_due(each, followed)]
        return [(each.text, _time_of(each, followed)) for each in due]

    def left(self) -> list[str]:
        """The texts after the last packet."""
        self._look()
        return [each.text for each in self._waiting]

    def _look(self) -> None:
        try:
            size = self._file.stat().st_size
        except FileNotFoundError:
            # There are no texts yet, or the recording is finished and its spool deleted.
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
    """Deletes a segment once all targets have it."""

    def __init__(self, targets: int) -> None:
        """`targets` is the number of targets."""
        self._targets = targets
        self._arrivals: Counter[Path] = Counter()
        self._lock = threading.Lock()

    def release(self, segment: Path) -> None:
        """One more target has the segment, or will never get it."""
        with self._lock:
            self._arrivals[segment] += 1
            if self._arrivals[segment] < self._targets:
                return
            del self._arrivals[segment]
        segment.unlink(missing_ok=True)


class StatusReporter:
    """Reports the state of all targets as one output, which fails while any target fails."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are the targets."""
        self._missing = set(names)
        self._errors: dict[str, str] = {}
        self._lock = threading.Lock()

    def arrived(self, name: str) -> None:
        """A target has a playlist and all its segments."""
        with self._lock:
            self._missing.discard(name)
            self._errors.pop(name, None)
            if self._errors:
                say(error=next(iter(self._errors.values())))
            elif not self._missing:
                say(arrived=True)

    def failed(self, name: str, error: str) -> None:
        """A target rejected a file."""
        with self._lock:
            # Errors of the farm's own store are for the log, not for clients.
            shown = self._errors[name] = STORE_FAILED if name == STORE else error
            say(error=shown, failed=True, reason=error)


class Uploader:
    """Uploads files to one target in order, and retries each until the target accepts it.

    If the target is unavailable for long, the oldest queued segments are dropped.
    """

    def __init__(
        self, name: str, put: Put, outgoing: Path, reaper: SegmentReaper, reporter: StatusReporter
    ) -> None:
        """`outgoing` is a directory for copies of playlists during their upload."""
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
        """Because of a bug."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        outgoing.mkdir()
        self._thread.start()

    def add(self, segments: list[Path], name: str, playlist: str) -> None:
        """Queue segments and then their playlist, with this text, for upload."""
        with self._changed:
            self._waiting += segments
            self._playlist = name, playlist
            dropped = [self._waiting.popleft() for _ in range(len(self._waiting) - MAX_WAITING)]
            self._lost |= {segment.name for segment in dropped}
            self._changed.notify()
        for segment in dropped:
            self._reaper.release(segment)

    def end(self) -> bool:
        """Wait until everything is uploaded; returns whether nothing was lost.

        The parent process kills the program if this takes too long.
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
        except Exception:  # noqa: BLE001 - the program exits and is restarted
            self.has_died = True
            traceback.print_exc()

    def _next(self) -> tuple[list[Path], str, str] | None:
        """The files queued since the last call; None at the end."""
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
            self._reaper.release(segment)
        # A copy: a directory store may hard-link the file it gets.
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


def _targets(spec: HlsSpec) -> dict[str, Put]:
    if spec.recording is None:
        return {}
    settings = load_settings()
    recording = Recording.model_validate(spec.recording)
    puts = {STORE: _store_of(recording, settings, Path(spec.directory))} if recording.keep_copy else {}
    if spec.target is not None:
        target = TARGET.validate_json(json.dumps(spec.target))
        puts[CUSTOMERS] = customers_put(recording, target, spec, settings)
    return puts


def _store_of(recording: Recording, settings: Settings, directory: Path) -> Put:
    store = open_store(settings)
    checkpoint = Checkpoint(directory / ".store.checkpoint")

    def put(file: Path) -> None:
        store.put(recording.id, file, file.name, checkpoint)

    return put


def customers_put(recording: Recording, target: Target, spec: HlsSpec, settings: Settings) -> Put:
    """Uploads files to the customer's storage; if its credentials expire, with the currently stored ones."""
    backend = open_backend(target, settings.address_rule, host_key=spec.host_key)
    checkpoint = Checkpoint(Path(spec.directory) / ".customers.checkpoint")

    def put(file: Path) -> None:
        nonlocal backend
        try:
            backend.upload(file, key_at(target, recording, file.name), checkpoint, content_type(file.name))
        except StorageError as error:
            if error.final and spec.transfer is not None:
                # The client may have sent new keys with an API call.
                kept = _kept_target(recording, spec.transfer, settings)
                backend = open_backend(kept or target, settings.address_rule, host_key=spec.host_key)
            raise

    return put


def _kept_target(recording: Recording, name: str, settings: Settings) -> Target | None:
    """The customer's storage with its currently stored keys; None if they are not available."""
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
