"""The errors that the stage and the bot raise."""

from recording_farm.browser_bot.redaction import printable


class BrowserBotError(Exception):
    """Base class of all errors that this package raises on purpose."""


class StageError(BrowserBotError):
    """A part of the stage did not start or has died; the message names it and ends with its log."""


class ProgramNotFoundError(StageError):
    """A program that the stage needs is not installed.

    `package` is the Debian package that contains it.
    """

    def __init__(self, program: str, package: str) -> None:
        """Name the missing program and its package."""
        super().__init__(f"{program} is not installed; on Debian: apt-get install {package}")
        self.program = program
        self.package = package


class StageDegradedError(StageError):
    """The stage must be replaced: it runs but does not work properly, or its failure is already reported."""


class StageLimitError(StageError):
    """The page broke a limit of its stage: `resource` is `disk`, `memory` or `tasks`."""

    def __init__(self, message: str, resource: str) -> None:
        """Name the limit."""
        super().__init__(message)
        self.resource = resource


class PageError(BrowserBotError):
    """The page did not open or did not become ready; the message is for users.

    It may quote the page, so it has no control characters.
    """

    def __init__(self, message: str = "") -> None:
        """Keep the printable part of `message`."""
        super().__init__(printable(message))


class PageLostError(PageError):
    """The page, its browser or its connection was lost during the recording."""


class PageDeclinedError(PageError):
    """The page said before the recording started that there is nothing to record; a retry does not help."""


class PageOverError(PageDeclinedError):
    """The page said before the recording started that its meeting is over."""


class PagePermanentError(PageError):
    """The page cannot load and a retry cannot help, because the URL itself is wrong."""


class NoAnswerError(BrowserBotError):
    """A page did not answer a question, or answered with an error; usually it is navigating or gone."""

    def __init__(self, message: str = "") -> None:
        """Keep the printable part of `message`, which may quote the page."""
        super().__init__(printable(message))
