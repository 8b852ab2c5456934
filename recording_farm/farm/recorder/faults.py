"""What a failure means for the recording, and its sentence for clients. Pure functions."""

from recording_farm.browser_bot.errors import (
    PageError,
    PageLostError,
    ProgramNotFoundError,
    StageDegradedError,
)
from recording_farm.encoder.errors import ClockJumpedError, EncoderTooSlowError


def is_lasting(fault: Exception) -> bool:
    """Whether a new stage cannot help: the page refuses every attempt, or a program is not installed."""
    is_refused = isinstance(fault, PageError) and not isinstance(fault, PageLostError)
    return is_refused or isinstance(fault, ProgramNotFoundError)


def counts_as_break(fault: Exception) -> bool:
    """Whether a recording ends when it has too many of these.

    A machine that is too slow, or whose clock is set, gets any number of new takes. The monitor limits how
    often a worn stage is replaced.
    """
    return not isinstance(fault, StageDegradedError | EncoderTooSlowError | ClockJumpedError)


def sentence_of(fault: Exception) -> str:
    """A failure in one sentence for clients; the output of programs, with its paths, is in the log only."""
    sentence = str(fault).splitlines()[0]
    return sentence if isinstance(fault, PageError) else sentence.split(": ")[0]
