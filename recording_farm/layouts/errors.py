"""Errors of a suite, apart from differences; the command exits with 2."""

from recording_farm.farm.errors import FarmError


class LayoutError(FarmError):
    """Base class of these errors."""

    code = "layout_error"


class BadSuiteError(LayoutError):
    """The suite cannot be read; the message has a line for each fault, with file, line and field."""

    code = "bad_suite"


class RenderingFailedError(LayoutError):
    """A state's page did not load, or did not stop changing."""

    code = "rendering_failed"


class NoSuchFrameError(LayoutError):
    """The recording cannot be read, or has no picture at that time."""

    code = "no_such_frame"


class NothingToApproveError(LayoutError):
    """The last check has no picture to approve."""

    code = "nothing_to_approve"
