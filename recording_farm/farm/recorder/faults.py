"""What a fault means for the recording, and how clients are told of it. Pure functions."""

from recording_farm.browser_bot.errors import PageError, PageLostError, ProgramNotFoundError, StageWornError
from recording_farm.encoder.errors import ClockJumpedError, EncoderTooSlowError


def is_lasting(fault: Exception) -> bool:
    """Whether no new stage cures it: a page that was tried in vain, a program that is not installed."""
    is_refused = isinstance(fault, PageError) and not isinstance(fault, PageLostError)
    return is_refused or isinstance(fault, ProgramNotFoundError)


def counts_as_break(fault: Exception) -> bool:
    """Whether a recording that has too many of these ends.

    A machine that is too slow, or whose clock is set, gets another take as often as it takes. How often a
    stage is worn the monitor has decided.
    """
    return not isinstance(fault, StageWornError | EncoderTooSlowError | ClockJumpedError)


def in_words(fault: Exception) -> str:
    """A fault in one sentence for clients; what programs said besides, paths and all, is in the log."""
    sentence = str(fault).splitlines()[0]
    return sentence if isinstance(fault, PageError) else sentence.split(": ")[0]
