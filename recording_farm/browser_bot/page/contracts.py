"""Page contracts: how a page signals that recording may start and that it is over."""

from enum import StrEnum

START_SIGNAL = "START_RECORDING"
END_SIGNAL = "END_RECORDING"
REFUSAL_SIGNAL = "REFUSE_RECORDING:"
"""Prefix of a reason why the page cannot be recorded; our own, printed by the built-in meeting."""


class PageContract(StrEnum):
    """How a page signals the start and the end of the recording."""

    AUTO = "auto"
    """Whichever comes first: the signal of `console`, or the conditions of `plain`."""
    PLAIN = "plain"
    """No signals: the page is ready when it has loaded with fonts and images, and its videos have a frame."""
    CONSOLE = "console"
    """The page prints START_RECORDING and END_RECORDING, as LiveKit's templates do."""
    SDK = "sdk"
    """The page uses the recording SDK of Dyte or RealtimeKit, see `recording_sdk`."""
