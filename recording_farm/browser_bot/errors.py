"""What can go wrong on a stage and with a page, for those who watch from outside."""


class BrowserBotError(Exception):
    """The root: catch this to catch everything that this package raises on purpose."""


class StageError(BrowserBotError):
    """A part of the stage did not start or has died; the message says which and shows its last words."""


class ProgramNotFoundError(StageError):
    """A program that the stage needs is not installed.

    `package` is the Debian package that brings it.
    """

    def __init__(self, program: str, package: str) -> None:
        """Name the program and the package."""
        super().__init__(f"{program} is not installed; on Debian: apt-get install {package}")
        self.program = program
        self.package = package


class StageWornError(StageError):
    """A new stage will do: this one works, but not as it should, or its break is known already."""


class PageError(BrowserBotError):
    """The page could not be opened or did not become ready; the message is for people."""


class PageLostError(PageError):
    """The page, its browser or its connection is gone in mid-recording."""


class PageDeclinedError(PageError):
    """The page itself says that there is nothing to be recorded, before it has begun; no other try helps."""


class PageOverError(PageDeclinedError):
    """The page says that its meeting is over, before it has begun."""


class PagePermanentError(PageError):
    """The page cannot load, and another try cannot change that: the URL itself is wrong."""


class NoAnswerError(BrowserBotError):
    """A page could not be asked, or its answer is an error: it goes away, or it is gone."""
