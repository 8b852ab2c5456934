"""Errors of takes and files."""


class MediaError(Exception):
    """The root: a take could not be recorded, or a file not be made of takes."""


class EncoderError(MediaError):
    """ffmpeg did not start, died or fell behind; the message shows its last words."""


class EncoderHungError(EncoderError):
    """ffmpeg is there but does nothing any more."""


class EncoderTooSlowError(EncoderError):
    """ffmpeg has not kept up for ten seconds; the next take is encoded in a cheaper way."""


class ClockJumpedError(EncoderError):
    """Somebody has set the wall clock, which stamps picture and sound; ffmpeg is not at fault."""


class CutError(MediaError):
    """The takes could not be joined into a file; the takes themselves are untouched."""


class NothingRecordedError(CutError):
    """There is no whole frame in any take."""
