"""Errors that only the API raises, each with its code and HTTP status."""

from typing import ClassVar

from recording_farm.farm.errors import FarmError


class MalformedRequestError(FarmError):
    """The body of the request is not JSON."""

    code = "malformed_request"
    http_status = 400
    remedy = "Send JSON; with curl, quote the body in single quotes."


class RequestTooLargeError(FarmError):
    """The body of the request is larger than 1 MiB."""

    code = "request_too_large"
    http_status = 413
    remedy = "Send a smaller body."


class UnauthorizedError(FarmError):
    """The request has no credentials, or wrong ones."""

    code = "unauthorized"
    http_status = 401
    remedy = (
        "Send the API key as a Bearer token, or with Basic as `organization:key`; `farm keys create "
        "ORGANIZATION` makes one."
    )


class SessionEndedError(UnauthorizedError):
    """The session of the portal has ended, or its API key was revoked."""

    code = "session_ended"
    remedy = "Log in again."


class CsrfRefusedError(FarmError):
    """A request with a session cookie did not come from a page of the portal."""

    code = "csrf_refused"
    http_status = 403
    remedy = "Reload the page; programs use an API key instead of the cookie."


class NotAdministratorError(FarmError):
    """Only administrators of the farm can see this."""

    code = "not_administrator"
    http_status = 403
    remedy = "Use a key of an organization in `FARM_ADMINS`."


class RateLimitedError(FarmError):
    """There were too many requests.

    `limit` of them are allowed a minute; `retry_after` is in whole seconds.
    """

    code = "rate_limited"
    http_status = 429
    remedy = "Wait for `Retry-After` seconds, or let the operator raise `FARM_RATE_LIMIT`."

    def __init__(self, message: str, limit: int, retry_after: int) -> None:
        """`message` names what is limited."""
        super().__init__(f"{message}; try again in {retry_after} s")
        self.limit = limit
        self.retry_after = retry_after


class TooManyDownloadsError(FarmError):
    """The organization has its share of the downloads that the API sends at the same time."""

    code = "too_many_downloads"
    http_status = 429
    remedy = "Read the running downloads to their end, or try again after `Retry-After` seconds."
    retry_after: ClassVar[int] = 10
    """In seconds."""

    def __init__(self) -> None:
        """The message is always the same."""
        super().__init__(f"too many downloads are running; finish one, or try again in {self.retry_after} s")


class BusyError(FarmError):
    """The organization has too many requests of a costly kind under way: watermarks or storage checks."""

    code = "busy"
    http_status = 429
    remedy = "Wait until some of them have ended, or try again after `Retry-After` seconds."
    retry_after: ClassVar[int] = 10
    """In seconds."""

    def __init__(self) -> None:
        """The message is always the same."""
        super().__init__(
            "your organization has too many requests of this kind under way; wait until some have ended"
        )


class MeetingRefusedError(FarmError):
    """The built-in meeting cannot admit or keep this participant."""

    code = "meeting_refused"
    http_status = 409
    remedy = "Read the message: the meeting is full, or the browser sends too much."
