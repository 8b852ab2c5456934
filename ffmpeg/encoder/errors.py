"""What can go wrong with takes and the cut."""


class EncoderError(Exception):
    """ffmpeg did not start, died or fell behind; the message shows its last words."""


class CutError(Exception):
    """The takes could not be joined into a file; the takes themselves are untouched."""


class NothingRecorded(CutError):  # noqa: N818 - an outcome, named for what is the matter
    """There is no whole frame in any take."""
