"""Errors that only the API raises, each with its code and HTTP status."""

from typing import ClassVar

from recording_farm.farm.errors import FarmError


class MalformedRequestError(FarmError):
    """The body of a request is not JSON."""

    code = "malformed_request"
    http_status = 400


class RequestTooLargeError(FarmError):
    """The body of a request is larger than the API reads."""

    code = "request_too_large"
    http_status = 413


class UnauthorizedError(FarmError):
    """No credentials, or wrong ones."""

    code = "unauthorized"
    http_status = 401


class SessionEndedError(UnauthorizedError):
    """The session of somebody who had logged in has ended, or the key that it stood for."""

    code = "session_ended"


class CsrfRefusedError(FarmError):
    """A request that changes something came with a session's cookie, but not from one of its pages."""

    code = "csrf_refused"
    http_status = 403


class NotAdministratorError(FarmError):
    """What was asked for is for the administrators of the farm (FARM_ADMINS)."""

    code = "not_administrator"
    http_status = 403


class RateLimitedError(FarmError):
    """Too many requests; `limit` are allowed a minute, and `retry_after` is in whole seconds."""

    code = "rate_limited"
    http_status = 429

    def __init__(self, message: str, limit: int, retry_after: int) -> None:
        """The message says what there was too much of."""
        super().__init__(f"{message}; try again in {retry_after} s")
        self.limit = limit
        self.retry_after = retry_after


class TooManyDownloadsError(FarmError):
    """As much is being sent already, of what is costly, as the API sends at a time."""

    code = "too_many_downloads"
    http_status = 429
    retry_after: ClassVar[int] = 10
    """In seconds."""

    def __init__(self) -> None:
        """The message is always the same."""
        super().__init__(f"too many downloads are running; finish one, or try again in {self.retry_after} s")


class MeetingRefusedError(FarmError):
    """Somebody cannot come into a built-in meeting or cannot stay: it is full, or they send too much."""

    code = "meeting_refused"
    http_status = 409
