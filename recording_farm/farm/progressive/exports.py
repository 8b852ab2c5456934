"""Files that are made from the growing cut: audio in a file of its own, and interactive archives.

Each has a thread. The state of an encoder cannot be saved, so another process starts the file again from the
beginning of the body. If an export fails here, the job that finishes the recording makes it.
"""

import json
import logging
import shutil
import threading
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import ClassVar, Final

import av
from av.stream import Stream

from recording_farm.encoder.atomic_file import write_file
from recording_farm.encoder.cut.audio_export import METADATA
from recording_farm.encoder.cut.growing_audio import GrowingAudio, GrownFile
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.errors import MediaError, NothingRecordedError
from recording_farm.encoder.formats import AudioExport
from recording_farm.encoder.live.hls import TimedText
from recording_farm.encoder.media.packets import Packet
from recording_farm.encoder.mux.body_packets import BodyPackets
from recording_farm.encoder.mux.checksums import Block, BodyChecksums
from recording_farm.encoder.mux.samples import Kind
from recording_farm.farm.errors import FarmError
from recording_farm.farm.progressive.following import Following
from recording_farm.farm.progressive.names import audio_name
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.spool.interactive_archive import GrowingArchive, place_texts
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool
from recording_farm.farm.storage.backends.disk import read_at

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.2

Growing = GrowingAudio | GrowingArchive

_KINDS: Final = {Kind.VIDEO: "video", Kind.AUDIO: "audio"}


class _StoppedError(FarmError):
    """The thread was stopped before the file was complete."""


class Export(threading.Thread):
    """Makes one file in the outbox; `grown` is the file, once the thread has succeeded."""

    kinds: ClassVar[tuple[Kind, ...]]

    def __init__(self, following: Following, spool: Spool, name: str) -> None:
        """Make the file `name`."""
        super().__init__(daemon=True)
        self._following = following
        self._spool = spool
        self._outbox = Outbox.of(spool)
        self._target = self._outbox.directory / name
        self._directory = self._outbox.directory / f".{name}.growing"
        self._stopping = threading.Event()
        self._reading = threading.Lock()
        self._growing: Growing | None = None
        self.name = name
        self.identity = token_hex(8)
        """Of its body, see `GrowingCut.identity`."""
        self.grown: GrownFile | None = None

    def stop(self) -> None:
        """Stop the thread; others make the file."""
        self._stopping.set()

    def read_body(self, offset: int, size: int) -> bytes | None:
        """Read `size` bytes of its body; None while it is too short, and once the file is being finished.

        Raises OSError.
        """
        with self._reading:
            if self._growing is None or self._growing.body_size < offset + size:
                return None
            path, begin = self._growing.body
            with path.open("rb", buffering=0) as file:
                return read_at(file, begin + offset, size)

    def run(self) -> None:
        """See the class."""
        try:
            self.grown = self._make()
            save_grown(self._outbox, self.grown)
        except _StoppedError:
            pass
        except (av.FFmpegError, OSError, MediaError) as error:
            logger.warning(
                "cannot make %s while it is recorded, trying again at the end: %s", self._target.name, error
            )
        finally:
            with self._reading:
                self._growing = None
            shutil.rmtree(self._directory, ignore_errors=True)

    def _make(self) -> GrownFile:
        following = self._following
        with BodyPackets(
            following.directory, self._spool.format, self.kinds, following.read_packets
        ) as packets:
            has_begun = False
            with ExitStack() as opened:
                while True:
                    # In this order: once there is a result, no more entries are added.
                    result, entries = following.result, following.entries
                    if not has_begun:
                        has_begun = self._open(packets, entries, opened, is_all=result is not None)
                    if has_begun:
                        self._look(result)
                        for kind, packet in packets.packets(entries):
                            self._add(packet, kind)
                            self._check()
                    if result is not None:
                        return self._finished(result)
                    following.finished.wait(_LOOK_SECONDS)
                    self._check()

    def _finished(self, result: CutFile) -> GrownFile:
        with self._reading:
            has_begun = self._growing is not None
            # From now on its body is moved.
            self._growing = None
        if not has_begun:
            raise NothingRecordedError("there is no sound in it")
        return self._finish(result)

    def _check(self) -> None:
        if self._stopping.is_set():
            raise _StoppedError(self._target.name)

    def _open(self, packets: BodyPackets, entries: int, opened: ExitStack, *, is_all: bool) -> bool:
        streams = packets.open(entries, self._following.metadata, is_all=is_all)
        if streams is None:
            return False
        metadata = {key: packets.metadata[key] for key in METADATA if key in packets.metadata}
        growing = self._begin(streams, metadata, opened)
        growing.identity = self.identity
        self._growing = growing
        return True

    @abstractmethod
    def _begin(self, streams: Sequence[Stream], metadata: dict[str, str], opened: ExitStack) -> Growing:
        """Begin the file; the stack closes it at the end."""

    def _look(self, result: CutFile | None) -> None:
        """Add texts that belong before the next packets."""

    @abstractmethod
    def _add(self, packet: Packet, kind: Kind) -> None:
        """Append a packet."""

    @abstractmethod
    def _finish(self, result: CutFile) -> GrownFile:
        """End the file."""


class _Sound(Export):
    """Audio in a file of its own."""

    kinds = (Kind.AUDIO,)

    def __init__(self, following: Following, spool: Spool, name: str, audio: AudioExport) -> None:
        super().__init__(following, spool, name)
        self._audio = audio
        self._sound: GrowingAudio

    def _begin(self, streams: Sequence[Stream], metadata: dict[str, str], opened: ExitStack) -> Growing:
        (sound,) = streams
        assert isinstance(sound, av.AudioStream)
        self._sound = opened.enter_context(GrowingAudio(self._directory, sound, self._audio, metadata))
        return self._sound

    def _add(self, packet: Packet, kind: Kind) -> None:  # noqa: ARG002
        self._sound.add(packet)

    def _finish(self, result: CutFile) -> GrownFile:  # noqa: ARG002
        return self._sound.finish(self._target)


class _Archive(Export):
    """The archive of an interactive recording."""

    kinds = (Kind.VIDEO, Kind.AUDIO)

    def __init__(self, following: Following, spool: Spool, name: str) -> None:
        super().__init__(following, spool, name)
        self._archive: GrowingArchive
        self._texts_read = 0
        self._unplaced: list[TimedText] = []

    def _begin(self, streams: Sequence[Stream], metadata: dict[str, str], opened: ExitStack) -> Growing:  # noqa: ARG002
        self._archive = opened.enter_context(GrowingArchive(self._directory, streams))
        return self._archive

    def _look(self, result: CutFile | None) -> None:
        texts, self._texts_read = self._spool.texts_from(self._texts_read)
        joints = self._following.joints if result is None else result.joints
        known = {joint.take for joint in joints}
        waiting = [*self._unplaced, *texts]
        self._archive.add_texts(place_texts(joints, waiting))
        self._unplaced = [text for text in waiting if text.take not in known]

    def _add(self, packet: Packet, kind: Kind) -> None:
        self._archive.add(packet, _KINDS[kind])

    def _finish(self, result: CutFile) -> GrownFile:
        return self._archive.finish(self._target, result.duration_us)


def exports_of(recording: Recording, spool: Spool, following: Following) -> list[Export]:
    """The exports of a recording."""
    exports: list[Export] = []
    if recording.timed_texts:
        exports.append(_Archive(following, spool, recording.output_file_name))
    name = audio_name(recording)
    if name is not None and recording.audio_file is not None:
        exports.append(_Sound(following, spool, name, recording.audio_file))
    return exports


def grown_file(outbox: Outbox, name: str) -> GrownFile | None:
    """An export that was made during the recording, if it is complete."""
    try:
        saved = json.loads(_note(outbox, name).read_text())
        blocks = tuple(Block(**block) for block in saved["body"]["blocks"])
        file = GrownFile(
            outbox.directory / name, BodyChecksums(saved["body"]["crc32c"], blocks), saved["identity"]
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return file if file.path.exists() else None


def save_grown(outbox: Outbox, file: GrownFile) -> None:
    """Remember that an export is complete. Raises OSError."""
    content = json.dumps({"identity": file.identity, "body": asdict(file.body)})
    write_file(_note(outbox, file.path.name), content)


def _note(outbox: Outbox, name: str) -> Path:
    return outbox.directory / f".{name}.grown.json"
