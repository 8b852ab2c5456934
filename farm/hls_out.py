"""The program that makes HLS of a recording while it is made, and carries it to its places.

Like `farm.stream_out` it gets its order as a line of JSON, ends with its input, and says how far it is.
The playlist goes to a place after the segments that it names, so nobody finds one that is not there yet.
"""

import json
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final

from encoder.follow import Followed, follow
from encoder.formats import AudioExport, Format
from encoder.hls import PLAYLIST_SUFFIX, HlsWriter, TimedText, read_timed_texts, segments_in
from farm.keys import load_secret_key
from farm.recordings import Recording, content_type
from farm.settings import Settings, load_settings
from farm.storage.place import Checkpoint, StorageError
from farm.storage.places import place_of
from farm.storage.targets import TARGET, Target
from farm.store import open_store
from farm.stream_out import input_ended, say
from farm.transfer_job import key_at

RETRY_SECONDS: Final = 1.0, 2.0, 5.0, 10.0
"""Between tries of one file; the last is that of all that follow."""

Put = Callable[[Path], None]
"""Carries one file to one place; raises StorageError."""


@dataclass(frozen=True)
class HlsOrder:
    """What to make, and where to carry it.

    Of the takes in the directory `spool`, `name.m3u8` and segments of so many `seconds` in `directory`.
    With a `window` only so many of the newest are kept, from now on. `texts` is the file of its timed texts.
    With the `recording` as JSON it is carried to the store, unless that keeps no copy, and to the customer's
    `target` (with its keys; `host_key` is what its SFTP server has shown before).
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
    target: dict[str, Any] | None = None
    host_key: str | None = None

    @property
    def format(self) -> Format:
        """As far as it matters to who follows."""
        return Format(fps=self.fps, audio_only=AudioExport() if self.audio_only else None)


def main() -> None:
    """Make it until the recording is over; it ends when all of it has arrived."""
    order = HlsOrder(**json.loads(sys.stdin.readline()))
    over = input_ended(sys.stdin)
    directory = Path(order.directory)
    puts = _places(order)
    carried = _Carried(len(puts))
    carriers = [_Carrier(put, directory / f"place-{number}", carried) for number, put in enumerate(puts)]
    _make(order, over, carriers)
    for carrier in carriers:
        carrier.end()


def _make(order: HlsOrder, over: threading.Event, carriers: Sequence["_Carrier"]) -> None:
    directory = Path(order.directory)
    texts = _Texts(Path(order.texts)) if order.texts else None
    writer: HlsWriter | None = None
    told: set[str] = set()
    reached = 0
    for streams, packets in follow(
        Path(order.spool), order.format, over.is_set, live=order.window is not None
    ):
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
                _tell_new(directory, order.name, told, carriers)
    if writer is not None:
        if texts is not None:
            for text in texts.left():
                writer.write_text(text, reached)
        writer.close()
        _tell_new(directory, order.name, told, carriers)


def _tell_new(directory: Path, name: str, told: set[str], carriers: Sequence["_Carrier"]) -> None:
    """Carry what has come, and say so."""
    playlist = directory / f"{name}{PLAYLIST_SUFFIX}"
    if not playlist.exists():
        return
    text = playlist.read_text()
    new = [segment for segment in segments_in(text) if segment not in told]
    ended = "#EXT-X-ENDLIST" in text
    if not new and not ended:
        return
    told.update(new)
    for carrier in carriers:
        carrier.carry([directory / segment for segment in new], name + PLAYLIST_SUFFIX, text)
    say(segments=len(told), ended=ended)


class _Texts:
    """The timed texts of a recording, as they come."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._size = 0
        self._read = 0
        self._waiting: list[TimedText] = []

    def until(self, followed: Followed) -> list[tuple[str, int]]:
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


def _is_due(text: TimedText, followed: Followed) -> bool:
    return (text.take, text.us) <= (followed.take, followed.take_us)


def _time_of(text: TimedText, followed: Followed) -> int:
    if text.take != followed.take:
        return followed.time_us
    return max(0, followed.time_us - (followed.take_us - text.us))


class _Carried:
    """Deletes a segment once it has arrived everywhere."""

    def __init__(self, places: int) -> None:
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


class _Carrier:
    """Carries files to one place, one after the other, each until it has arrived."""

    def __init__(self, put: Put, outgoing: Path, carried: _Carried) -> None:
        """`outgoing` is a directory of its own, for playlists on their way."""
        self._put = put
        self._carried = carried
        self._outgoing = outgoing
        self._items: queue.SimpleQueue[tuple[list[Path], str, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        outgoing.mkdir()
        self._thread.start()

    def carry(self, segments: list[Path], name: str, playlist: str) -> None:
        """Carry segments, then the playlist that names them, of which this is the text."""
        self._items.put((segments, name, playlist))

    def end(self) -> None:
        """Wait until everything has arrived; whoever started the program ends it when that takes too long."""
        self._items.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._items.get()) is not None:
            segments, name, playlist = item
            for segment in segments:
                self._insist(segment)
                self._carried.at_one(segment)
            # A file of its own: a place may keep what it gets as a second name of it.
            copy = self._outgoing / name
            copy.unlink(missing_ok=True)
            copy.write_text(playlist)
            self._insist(copy)

    def _insist(self, file: Path) -> None:
        pauses = chain(RETRY_SECONDS, repeat(RETRY_SECONDS[-1]))
        while True:
            try:
                self._put(file)
                return
            except StorageError as error:
                say(error=error.message)
                time.sleep(next(pauses))


def _places(order: HlsOrder) -> list[Put]:
    if order.recording is None:
        return []
    settings = load_settings()
    recording = Recording.model_validate(order.recording)
    puts = [_store_of(recording, settings, Path(order.directory))] if recording.keep_copy else []
    if order.target is not None:
        target = TARGET.validate_json(json.dumps(order.target))
        puts.append(_customers(recording, target, order.host_key, settings, Path(order.directory)))
    return puts


def _store_of(recording: Recording, settings: Settings, directory: Path) -> Put:
    store = open_store(settings, load_secret_key(settings))
    checkpoint = Checkpoint(directory / ".store.checkpoint")

    def put(file: Path) -> None:
        store.put(recording.id, file, file.name, checkpoint)

    return put


def _customers(
    recording: Recording, target: Target, host_key: str | None, settings: Settings, directory: Path
) -> Put:
    place = place_of(target, settings.address_rule, host_key=host_key)
    checkpoint = Checkpoint(directory / ".customers.checkpoint")

    def put(file: Path) -> None:
        place.upload(file, key_at(target, recording, file.name), checkpoint, content_type(file.name))

    return put


if __name__ == "__main__":
    main()
