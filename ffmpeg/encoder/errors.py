"""What can go wrong with takes and the cut."""


class EncoderError(Exception):
    """ffmpeg did not start, died or fell behind; the message shows its last words."""


class CutError(Exception):
    """The takes could not be joined into a file; the takes themselves are untouched."""
