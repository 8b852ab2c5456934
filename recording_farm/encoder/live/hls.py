"""HLS: a playlist and MPEG-TS segments, with timed ID3 tags if there are any.

A segment begins with a key frame, and lies in the playlist once it is whole.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import av
from av.packet import Packet as AvPacket
from av.stream import Stream

from recording_farm.encoder.media.packets import MICROSECOND, Packet

PLAYLIST_SUFFIX: Final = ".m3u8"
_SEGMENT: Final = "-%05d.ts"
SLACK_SECONDS: Final = 0.2
DESCRIPTION: Final = "ID3Data"
"""The description of our TXXX frames."""


@dataclass(frozen=True)
class TimedText:
    """A text from the page for viewers, at `us` of the take `take`."""

    take: int
    us: int
    text: str


def read_timed_texts(file: Path) -> list[TimedText]:
    """The texts in a file that `timed_text_line` has written; none if there is no file.

    A line that was not written to its end is left out.
    """
    try:
        return parse_timed_texts(file.read_text(errors="replace"))
    except FileNotFoundError:
        return []


def parse_timed_texts(content: str) -> list[TimedText]:
    """The texts in lines of such a file."""
    return list(_timed_texts(content.splitlines()))


def _timed_texts(lines: Iterable[str]) -> Iterator[TimedText]:
    for line in lines:
        try:
            yield TimedText(**json.loads(line))
        except (ValueError, TypeError):
            continue


def timed_text_line(text: TimedText) -> str:
    """A text as a line of JSON."""
    return json.dumps(vars(text)) + "\n"


def id3_tag(text: str) -> bytes:
    """An ID3 tag of version 2.4 with `text` in a TXXX frame (id3v2.4.0-structure, id3v2.4.0-frames 4.2.6)."""
    content = b"\x03" + DESCRIPTION.encode() + b"\0" + text.encode("utf-8", "replace")
    frame = b"TXXX" + _syncsafe(len(content)) + b"\0\0" + content
    return b"ID3\x04\0\0" + _syncsafe(len(frame)) + frame


def _syncsafe(number: int) -> bytes:
    """A number in four bytes of seven bits."""
    return bytes((number >> shift) & 0x7F for shift in (21, 14, 7, 0))


class HlsWriter:
    """Writes `{name}.m3u8` and `{name}-00000.ts` and so on into a directory. Use it as a context manager."""

    def __init__(
        self,
        directory: Path,
        name: str,
        streams: Sequence[Stream],
        *,
        seconds: int,
        window: int | None = None,
        with_texts: bool = False,
    ) -> None:
        """Take packets of `streams`; a segment lasts `seconds` or up to the next key frame.

        Without a `window` all segments stay; with one the playlist has so many of the newest, and what lies
        well behind is deleted. `with_texts` makes room for ID3 tags.
        """
        self.playlist = directory / f"{name}{PLAYLIST_SUFFIX}"
        self._output = av.open(
            str(self.playlist),
            "w",
            format="hls",
            options={
                # A little less: sixty frames are two seconds but for 20 µs, and it would wait for the next.
                "hls_time": f"{seconds - SLACK_SECONDS}",
                "hls_segment_filename": str(directory / f"{name}{_SEGMENT}"),
                **_listing(window),
            },
        )
        self._streams: dict[str, Stream] = {
            each.type: self._output.add_stream_from_template(each) for each in streams
        }
        self._texts = self._output.add_data_stream("timed_id3") if with_texts else None
        self._text_us = -1
        self._before: dict[str, int] = {}

    def __enter__(self) -> "HlsWriter":
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Write the last segment, and that nothing more comes."""
        self._output.close()

    def write(self, packet: Packet, kind: str, time_us: int) -> None:
        """Write a packet of picture or sound (`kind`) at a time; raises av.FFmpegError."""
        duration = self._duration(packet, kind, time_us)
        packet.stream = self._streams[kind]
        packet.time_base = MICROSECOND
        packet.pts = packet.dts = time_us
        packet.duration = duration
        self._output.mux(packet)

    def _duration(self, packet: Packet, kind: str, time_us: int) -> int:
        """The time since the packet before (µs), for the first one its own duration.

        FFmpeg adds them up for the EXTINF of the last segment. A packet's own duration does not show frames
        that were lost after it.
        """
        before, self._before[kind] = self._before.get(kind), time_us
        if before is None:
            return round((packet.duration or 0) * packet.time_base / MICROSECOND)
        return max(0, time_us - before)

    def write_text(self, text: str, time_us: int) -> None:
        """Write an ID3 tag; texts come in the order of their times."""
        assert self._texts is not None
        packet = AvPacket(id3_tag(text))
        packet.stream = self._texts
        packet.time_base = MICROSECOND
        self._text_us = packet.pts = packet.dts = max(time_us, self._text_us + 1)
        self._output.mux(packet)


def _listing(window: int | None) -> Mapping[str, str]:
    flags = "temp_file+independent_segments"
    if window is None:
        return {"hls_playlist_type": "event", "hls_list_size": "0", "hls_flags": flags}
    return {"hls_list_size": str(window), "hls_flags": f"{flags}+delete_segments"}


def segments_in(playlist: str) -> list[str]:
    """The names of the segments in the text of a playlist, in their order."""
    return [line for line in playlist.splitlines() if line and not line.startswith("#")]


def with_gaps(playlist: str, missing: Collection[str]) -> str:
    """The text of a playlist that says which of its segments are missing (draft-pantos-hls-rfc8216bis)."""
    lines = playlist.splitlines(keepends=True)
    return "".join(f"#EXT-X-GAP\n{line}" if line.rstrip("\r\n") in missing else line for line in lines)
