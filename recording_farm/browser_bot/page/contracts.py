"""Page contracts: how a page signals that recording may start and that it is over."""

from enum import StrEnum

START_SIGNAL = "START_RECORDING"
END_SIGNAL = "END_RECORDING"
REFUSAL_SIGNAL = "REFUSE_RECORDING:"
"""What follows is why the page cannot be recorded; ours, the built-in meeting prints it."""


class PageContract(StrEnum):
    """How the page says "start now" and "I am over"."""

    AUTO = "auto"
    """Whichever comes first: the signal of `console`, or what `plain` waits for."""
    PLAIN = "plain"
    """The page says nothing: it has loaded, with fonts and pictures, and its videos show first frames."""
    CONSOLE = "console"
    """The page prints START_RECORDING and END_RECORDING, as LiveKit's templates do."""
    SDK = "sdk"
    """The page has the recording SDK of Dyte or RealtimeKit, see `recording_sdk`."""
