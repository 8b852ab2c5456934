"""What can go wrong with a suite, besides a difference; the command ends with 2 then."""

from recording_farm.farm.errors import FarmError


class LayoutError(FarmError):
    """The root of these errors."""

    code = "layout_error"


class BadSuiteError(LayoutError):
    """The suite cannot be read; the message has a line for each fault, with file, line and field."""

    code = "bad_suite"


class RenderingFailedError(LayoutError):
    """A state's page did not come up, or never stood still."""

    code = "rendering_failed"


class NoSuchFrameError(LayoutError):
    """The recording cannot be read, or has no picture at that time."""

    code = "no_such_frame"


class NothingToApproveError(LayoutError):
    """The last check left no picture to approve."""

    code = "nothing_to_approve"
