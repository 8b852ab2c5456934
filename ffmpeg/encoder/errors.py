"""What can go wrong with takes and the cut."""


class EncoderError(Exception):
    """ffmpeg did not start, died or fell behind; the message shows its last words."""


class EncoderHung(EncoderError):  # noqa: N818 - named for what is the matter
    """ffmpeg is there but does nothing any more."""


class EncoderTooSlow(EncoderError):  # noqa: N818
    """ffmpeg has not kept up for ten seconds; the next take is encoded in a cheaper way."""


class ClockJumped(EncoderError):  # noqa: N818
    """Somebody has set the wall clock, which stamps picture and sound; ffmpeg is not at fault."""


class CutError(Exception):
    """The takes could not be joined into a file; the takes themselves are untouched."""


class NothingRecorded(CutError):  # noqa: N818 - an outcome, named for what is the matter
    """There is no whole frame in any take."""
