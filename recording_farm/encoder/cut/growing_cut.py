"""A cut that grows while the recording runs: the takes joined so far, in a directory.

    body      the content of the finished file behind its head
    samples   the log of where each sample is in the body
    checksums the checksums of the body
    streams   the tracks of the first take
    state     the progress, from which another process can continue
    head      the head, once the file is finished

`finish` builds the head and puts it in front, in a time that hardly depends on the length.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path
from secrets import token_hex
from typing import Final

from av.container import InputContainer

from recording_farm.encoder.atomic_file import sync, write_file
from recording_farm.encoder.cut.audio_joiner import AudioJoiner
from recording_farm.encoder.cut.joiner import (
    Joiner,
    JoinState,
    TakeJoint,
    TakeMedia,
    TakePlace,
)
from recording_farm.encoder.cut.put_in_front import BLOCK_BYTES, COPIED_BYTES, put_in_front
from recording_farm.encoder.errors import NothingRecordedError
from recording_farm.encoder.formats import Format
from recording_farm.encoder.media.packets import Packet, time_of, whole_packets
from recording_farm.encoder.mux.body import BODY_NAME, LOG_NAME, STREAMS_NAME, Body
from recording_farm.encoder.mux.checksums import BodyChecksums, SavedChecksums
from recording_farm.encoder.mux.head import make_head
from recording_farm.encoder.mux.padding import NO_PADDING, Padding
from recording_farm.encoder.mux.samples import Entries, read_entries
from recording_farm.encoder.mux.template import save_streams

_STATE: Final = "state"

HEAD_PACKETS: Final = 200
"""Number of packets that are searched for a take's first frame and the audio around it."""

_SAVE_SECONDS: Final = 1

Look = Callable[[int], TakeMedia]
"""Waits until a take is final up to a time (µs) of its own clock, and returns it; -1 is its end."""


@dataclass(frozen=True)
class CutFile:
    """A finished file with its frames, lost frames, and frames that came too close together.

    The last `body_bytes` are the body of the growing cut `identity`, with these `checksums`.
    """

    path: Path
    duration_us: int
    frames: int
    lost: int
    crowded: int
    takes: int
    joints: tuple[TakeJoint, ...] = ()
    body_bytes: int = 0
    identity: str = ""
    checksums: BodyChecksums = field(default_factory=BodyChecksums)


class GrowingCut:
    """The takes of a recording, joined as far as they are recorded."""

    def __init__(self, directory: Path, fmt: Format) -> None:
        """Continue what an earlier process left in `directory`. Raises OSError."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._format = fmt
        saved = read_saved_cut(directory)
        try:
            self._body = Body(directory, fmt, saved.body_size, saved.entries, saved.checksums)
        except OSError:
            # After a power failure the files may be shorter than the state says.
            saved = SavedCut()
            self._body = Body(directory, fmt)
        self.identity = saved.identity
        """The identity of this body. A restarted cut may have other bytes, and has another identity."""
        self._saved_size = saved.body_size
        self._is_finished = False
        self._joiner = (
            Joiner(fmt, self._body, saved.join)
            if fmt.audio_only is None
            else AudioJoiner(self._body, saved.join)
        )
        self._began_us = saved.began_us
        self._saved_at = time.monotonic()

    @property
    def body(self) -> Path:
        """The file of the body."""
        return self._directory / BODY_NAME

    @property
    def body_size(self) -> int:
        """Bytes of the body that are final, also if this process dies."""
        return self._saved_size

    @property
    def entries(self) -> int:
        """Entries of the log whose samples are in the body."""
        return self._body.entries

    @property
    def joints(self) -> tuple[TakeJoint, ...]:
        """Where the takes are in the file; the last one may be incomplete."""
        return self._joiner.state.joints

    @property
    def began_us(self) -> int | None:
        """When the first take began (unix, µs); None before that, or if it is unknown."""
        return self._began_us

    @property
    def take(self) -> int | None:
        """The number of the last take that was joined, at least in part; None before the first."""
        place = self._joiner.state.take
        return None if place is None else place.number

    def add(self, take: TakeMedia, source: InputContainer, look: Look | None = None) -> None:
        """Append a take, or the rest of it. A take without a whole frame is left out. Raises OSError.

        `source` is the take; its beginning may be missing if that is joined already.
        """
        look = look or (lambda _: take)
        packets = whole_packets(source)
        first: list[Packet] = []
        if self.take is not None and take.number == self.take:
            self._joiner.resume()
        else:
            first = list(islice(packets, HEAD_PACKETS + 2))
            take = look(time_of(first[0])) if first else take
            if not self._joiner.begin(take, first, source):
                return
            self._note_begin(take, source)
        for packet in chain(first, packets):
            take = look(time_of(packet))
            self._joiner.add(packet, take)
            self.save_now_and_then()
        self._joiner.end_take(look(-1))

    def finish(self, target: Path, title: str | None = None, padding: Padding = NO_PADDING) -> CutFile:
        """Finish the file, and move it to `target`. The cut is over then.

        Without `padding` the head has the size with which the body moves fastest. Raises NothingRecordedError
        if the body is empty, OSError, av.FFmpegError.
        """
        joined = self._joiner.close()
        if not joined.joints:
            what = "frame" if self._format.audio_only is None else "sound"
            raise NothingRecordedError(f"there is no whole {what} in any take")
        head = self._head(file_metadata(self._began_us, title), padding)
        self._body.sync()
        self._body.close()
        # A body with half a head in front must not be continued: after a crash from here on, the cut
        # restarts.
        self._is_finished = True
        (self._directory / _STATE).unlink(missing_ok=True)
        sync(self._directory)
        put_in_front(head, self.body, target)
        return CutFile(
            *(target, joined.duration_us, joined.frames, joined.lost, joined.crowded),
            *(len(joined.joints), joined.joints, self._body.size, self.identity),
            self._body.checksums.result(),
        )

    def close(self) -> None:
        """Stop here; another process may continue."""
        try:
            if not self._is_finished:
                self._save()
        finally:
            self._body.close()

    def _note_begin(self, take: TakeMedia, source: InputContainer) -> None:
        streams = self._directory / STREAMS_NAME
        if not streams.exists():
            save_streams(source, streams, self._format)
        if self._began_us is None:
            self._began_us = take.began_us

    def _head(self, metadata: Mapping[str, str], padding: Padding) -> bytes:
        entries: Entries = read_entries(self._directory / LOG_NAME)
        size = self._body.size
        if padding == NO_PADDING and size > COPIED_BYTES:
            padding = Padding(BLOCK_BYTES)
        with (self._directory / STREAMS_NAME).open("rb") as streams:
            return make_head(streams, entries, size, self._format, metadata, padding)

    def save_now_and_then(self) -> None:
        """Save the state, at most once a second; call it also while waiting. Raises OSError."""
        if time.monotonic() - self._saved_at >= _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if self._body.size == self._saved_size:
            return
        state = {
            "identity": self.identity,
            "body": self._body.size,
            "samples": self._body.entries,
            "checksums": asdict(self._body.checksums.saved),
            "began_us": self._began_us,
            "join": asdict(self._joiner.state),
        }
        write_file(self._directory / _STATE, json.dumps(state, default=str), durable=False)
        self._saved_size = self._body.size


def file_metadata(began_us: int | None, title: str | None) -> dict[str, str]:
    """The metadata of a file: its title, and the start time of its first take (unix, µs)."""
    metadata = {} if title is None else {"title": title}
    if began_us is not None:
        began = datetime.fromtimestamp(began_us // 1_000_000, UTC)
        metadata["creation_time"] = began.replace(microsecond=began_us % 1_000_000).isoformat()
    return metadata


@dataclass(frozen=True)
class SavedCut:
    """A saved state: the sizes of body, log and checksums, and the state of the joiner."""

    identity: str = field(default_factory=partial(token_hex, 8))
    body_size: int = 0
    entries: int = 0
    checksums: SavedChecksums = field(default_factory=SavedChecksums)
    began_us: int | None = None
    join: JoinState | None = None


def read_saved_cut(directory: Path) -> SavedCut:
    """The saved state of the growing cut in `directory`; an empty one if there is none."""
    try:
        saved = json.loads((directory / _STATE).read_text())
        join = saved["join"]
        place = join["take"]
        if place is not None:
            place = TakePlace(**place | {"stretch": Fraction(place["stretch"])})
        joints = tuple(TakeJoint(**joint) for joint in join["joints"])
        state = JoinState(
            join["picture_end"], Fraction(join["sound_end"]), join["codec_delay_ms"], joints, place
        )
        checksums = SavedChecksums.of(saved["checksums"])
        return SavedCut(
            *(saved["identity"], saved["body"], saved["samples"], checksums, saved["began_us"], state)
        )
    except (OSError, ValueError, TypeError, KeyError):
        return SavedCut()
