"""What can go wrong with a suite, besides a difference; the command ends with 2 then."""

# ruff: noqa: N818 - named for what is the matter, as in farm/errors.py

from farm.errors import FarmError


class LayoutError(FarmError):
    """The root of these errors."""

    code = "layout_error"


class BadSuite(LayoutError):
    """The suite cannot be read; the message has a line for each fault, with file, line and field."""

    code = "bad_suite"


class RenderingFailed(LayoutError):
    """A state's page did not come up, or never stood still."""

    code = "rendering_failed"


class NoSuchFrame(LayoutError):
    """The recording cannot be read, or has no picture at that time."""

    code = "no_such_frame"


class NothingToApprove(LayoutError):
    """The last check left no picture to approve."""

    code = "nothing_to_approve"
