"""The file of an interactive recording: a tar of HLS with the page's timed texts as ID3 tags.

The format is the recording API's: a playlist, segments of about ten seconds, tags in MPEG-TS. The archive
grows with the recording: each segment is appended when it is whole, and the playlist, which comes first in
the tar, is put in front at the end.
"""

import shutil
import tarfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from secrets import token_hex
from typing import Final

import av
from av.stream import Stream

from recording_farm.encoder.cut.growing_audio import GrownFile
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.cut.joiner import TakeJoint
from recording_farm.encoder.cut.put_in_front import BLOCK_BYTES, put_in_front
from recording_farm.encoder.errors import CutError
from recording_farm.encoder.live.hls import HlsWriter, TimedText, segments_in
from recording_farm.encoder.media.packets import MICROSECOND, Packet
from recording_farm.encoder.mux.body import BODY_NAME, CHECKSUMS_NAME
from recording_farm.encoder.mux.checksums import GrowingChecksums

SUFFIX: Final = ".tar"
SEGMENT_SECONDS: Final = 10

_NAME: Final = "index"
_HLS: Final = "hls"


class GrowingArchive:
    """An archive that grows with the packets of a recording; use it as a context manager.

    `body_size` bytes of its body will not change any more.
    """

    def __init__(self, directory: Path, streams: Sequence[Stream]) -> None:
        """Begin with packets of `streams`; what is in `directory` is deleted.

        Raises OSError, av.FFmpegError.
        """
        shutil.rmtree(directory, ignore_errors=True)
        (directory / _HLS).mkdir(parents=True, mode=0o700)
        self.identity = token_hex(8)
        self._hls = directory / _HLS
        self._path = directory / BODY_NAME
        self._opened = ExitStack()
        self._file = self._opened.enter_context(self._path.open("xb"))
        self._checksums = GrowingChecksums(directory / CHECKSUMS_NAME)
        self._opened.callback(self._checksums.close)
        self._writer = self._opened.enter_context(
            HlsWriter(self._hls, _NAME, streams, seconds=SEGMENT_SECONDS, with_texts=True)
        )
        self._waiting: list[tuple[int, str]] = []
        self._in_archive = 0
        self._playlist_size = 0
        self.body_size = 0

    def __enter__(self) -> "GrowingArchive":
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._opened.close()

    @property
    def body(self) -> tuple[Path, int]:
        """The file in which the body lies, and where it begins in it."""
        return self._path, 0

    def add_texts(self, texts: Iterable[tuple[int, str]]) -> None:
        """Texts with their times in the file (µs), which are written before the next packet that is later."""
        self._waiting = sorted([*self._waiting, *texts], key=itemgetter(0))

    def add(self, packet: Packet, kind: str) -> None:
        """Append a packet of picture or sound (`kind`). Raises OSError, av.FFmpegError."""
        assert packet.pts is not None
        time_us = round(packet.pts * packet.time_base / MICROSECOND)
        while self._waiting and self._waiting[0][0] <= time_us:
            at_us, text = self._waiting.pop(0)
            self._writer.write_text(text, at_us)
        self._writer.write(packet, kind, time_us)
        self._append_segments()

    def finish(self, target: Path, duration_us: int) -> GrownFile:
        """End the archive, and move it to `target`; texts behind its end go there.

        Raises OSError, av.FFmpegError.
        """
        for at_us, text in self._waiting:
            self._writer.write_text(text, min(at_us, duration_us))
        self._writer.close()
        self._append_segments()
        playlist = self._writer.playlist.read_bytes()
        # Blank lines in a playlist are ignored (RFC 8216, 4.1): so the head has whole blocks.
        playlist += b"\n" * (-(len(playlist) + tarfile.BLOCKSIZE) % BLOCK_BYTES)
        head = _member(self._writer.playlist.name, playlist)
        end = bytes(2 * tarfile.BLOCKSIZE)
        size = len(head) + self.body_size + len(end)
        self._append(end + bytes(-size % tarfile.RECORDSIZE))
        put_in_front(head, self._path, target)
        return GrownFile(target, self._checksums.result(), self.identity)

    def _append_segments(self) -> None:
        """Move the segments that are whole into the archive."""
        try:
            size = self._writer.playlist.stat().st_size
        except FileNotFoundError:
            return
        if size == self._playlist_size:
            return
        self._playlist_size = size
        names = segments_in(self._writer.playlist.read_text())
        for name in names[self._in_archive :]:
            self._append(_member(name, (self._hls / name).read_bytes()))
            (self._hls / name).unlink()
            self._in_archive += 1

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self._checksums.update(data)
        self.body_size += len(data)


def make_archive(cut: CutFile, texts: Sequence[TimedText], target: Path) -> GrownFile:
    """Write the archive `target` of a finished MP4 atomically.

    Texts of takes that are not in the file are omitted. Raises CutError.
    """
    directory = target.with_name(f".{target.name}.archive")
    try:
        with (
            av.open(str(cut.path)) as source,
            GrowingArchive(directory, [*source.streams.video, *source.streams.audio]) as growing,
        ):
            growing.add_texts(place_texts(cut.joints, texts))
            for packet in source.demux():
                if packet.pts is not None and packet.size:
                    growing.add(packet, packet.stream.type)
            return growing.finish(target, cut.duration_us)
    except (av.FFmpegError, OSError) as error:
        raise CutError(f"{target} could not be made: {error}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def place_texts(joints: Sequence[TakeJoint], texts: Iterable[TimedText]) -> list[tuple[int, str]]:
    """The texts with their times in the file, in µs."""
    offsets = {joint.take: joint.offset for joint in joints}
    return [(max(0, text.us + offsets[text.take]), text.text) for text in texts if text.take in offsets]


def _member(name: str, content: bytes) -> bytes:
    """A file in a tar."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mtime = int(time.time())
    return member.tobuf() + content + bytes(-len(content) % tarfile.BLOCKSIZE)
