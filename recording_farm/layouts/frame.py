"""One frame of a finished file, as a player shows it at a given time."""

from fractions import Fraction
from pathlib import Path

import av
from PIL.Image import Image as Picture

from recording_farm.layouts.errors import NoSuchFrameError


def frame_at(file: Path, at: Fraction) -> Picture:
    """The frame that is shown `at` seconds from the file's start: the last one that began no later.

    Raises NoSuchFrameError when the file cannot be read, or is over before.
    """
    try:
        with av.open(str(file)) as source:
            if not source.streams.video:
                raise NoSuchFrameError(f"{file} has no picture")
            stream = source.streams.video[0]
            base = stream.time_base
            assert base is not None
            begin = Fraction(stream.start_time or 0) * base
            wanted = begin + at
            # Seeking ends at the key frame before it.
            source.seek(int(wanted / base), stream=stream)
            shown: av.VideoFrame | None = None
            end = begin
            for frame in source.decode(stream):
                if frame.pts is None:
                    continue
                if frame.pts * base > wanted:
                    break
                shown = frame
                end = (frame.pts + max(frame.duration or 0, 1)) * base
            else:
                if wanted >= end:
                    raise NoSuchFrameError(
                        f"{file} ends after {float(end - begin):.3f} s, before {float(at):g} s"
                    )
            if shown is None:
                raise NoSuchFrameError(f"{file} has no picture at {float(at):g} s")
            picture: Picture = shown.to_image()  # type: ignore[no-untyped-call]
            return picture
    except (av.FFmpegError, OSError) as error:
        raise NoSuchFrameError(f"{file} cannot be read: {error}") from error
