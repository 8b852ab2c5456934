"""The last frame of a broken take, as a picture."""

import io
from pathlib import Path
from typing import Final

import av

from recording_farm.encoder.media.growing_file import GrowingFile, last_fragments
from recording_farm.encoder.media.packets import whole_packets

_FRAGMENTS: Final = 10
"""Of a quarter of a second each: there is a key frame among them, and no more of a long take is read."""


def last_frame(take: Path) -> bytes | None:
    """The last frame of a take in MP4 to which nothing is added any more, as a PNG; None if it has none.

    Raises OSError when the disk fails.
    """
    file = GrowingFile(take, lambda: True, last_fragments(take, _FRAGMENTS))
    frame: av.VideoFrame | None = None
    try:
        with av.open(file, "r", format="mp4", metadata_errors="replace") as source:
            if not source.streams.video:
                return None
            for packet in whole_packets(source, source.streams.video[0]):
                for decoded in packet.decode():
                    frame = decoded
    except av.FFmpegError:
        # It breaks off here, or before its first frame.
        pass
    finally:
        file.close()
    if frame is None:
        return None
    png = io.BytesIO()
    frame.to_image().save(png, "PNG")  # type: ignore[no-untyped-call]
    return png.getvalue()
