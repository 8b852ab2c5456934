"""The farm's error tree.

`code` is stable, for programs. `http_status` is the status of the API's response. The message is for people
and never contains a secret.

An error with a `remedy` can reach a client of the API: its docstring and `remedy` are the row of its `type`
in docs/troubleshooting.md (`api.error_types`).
"""

from typing import ClassVar


class FarmError(Exception):
    """Base class of the farm's errors.

    Three errors are not subclasses: `farm.safe_http.BadCertificateError`, an error of httpx, and two that
    `except Exception` must not catch: `farm.jobs.time_limit.TimeLimitError` and
    `farm.storage.backends.answers.AnswerError`.
    """

    code: ClassVar[str] = "farm_error"
    http_status: ClassVar[int] = 500
    remedy: ClassVar[str] = ""
    """What a client or operator can do; empty for errors that never reach a client."""
    exit_code: ClassVar[int] = 1
    """Exit code of a command: 78 (EX_CONFIG of sysexits.h) if a restart cannot help."""

    def __init__(self, message: str) -> None:
        """`message` is a whole sentence, shown to the client."""
        super().__init__(message)
        self.message = message


class SettingsError(FarmError):
    """A setting cannot be used; the message names the variable (`FARM_…`)."""

    code = "bad_setting"
    exit_code = 78


class InvalidRequestError(FarmError):
    """A field of the request has a value that is not allowed."""

    code = "invalid_request"
    http_status = 422
    remedy = "Correct the field that the message names; `/docs` of a running farm lists every field."


class AddressRefusedError(InvalidRequestError):
    """A URL of the request leads to a private address, or is not valid."""

    code = "address_refused"
    remedy = (
        "Use a public address, or let the operator allow the network with `FARM_ALLOW_PRIVATE_ADDRESSES`."
    )


class NameNotResolvedError(FarmError):
    """A host name in the request was not resolved in time, so its address could not be checked."""

    code = "name_not_resolved"
    http_status = 503
    remedy = "Try again after `Retry-After` seconds; if it stays, check the name and its name servers."
    retry_after: ClassVar[int] = 5
    """In seconds."""


class NotPermittedError(FarmError):
    """The credentials are valid, but not for this operation."""

    code = "not_permitted"
    http_status = 403
    remedy = "Use an API key: tokens of participants and hosts can do less."


class HighPriorityError(NotPermittedError):
    """The organization may not use the priority high."""

    code = "high_priority_not_permitted"
    remedy = "Leave `priority` out, or let the operator name the organization in `FARM_HIGH_PRIORITY`."


class QuotaExceededError(FarmError):
    """The organization has the maximum number of recordings that wait for their start."""

    code = "quota_exceeded"
    http_status = 429
    remedy = (
        "Start it after others have started, or stop some; the operator can raise `FARM_QUOTA_QUEUED`, or "
        "the quota of one organization with `farm quotas set`."
    )
    retry_after: ClassVar[int] = 30
    """In seconds."""


class KeysUnavailableError(FarmError):
    """The public keys that verify participants' tokens are not available.

    `retry_after` is in seconds.
    """

    code = "keys_unavailable"
    http_status = 503
    remedy = "Try again later; let the operator check `FARM_PARTICIPANT_JWKS_URL`."

    def __init__(self, message: str, retry_after: int) -> None:
        """The message names the setting with their URL."""
        super().__init__(message)
        self.retry_after = retry_after


class LinkRefusedError(FarmError):
    """The download link has expired, or this farm did not sign it."""

    code = "link_refused"
    http_status = 403
    remedy = (
        "Get the recording again: each answer has a new link. Several machines need the same "
        "`FARM_SECRET_KEY`."
    )


class NotFoundError(FarmError):
    """There is no such recording, file, webhook or path, or it belongs to another organization."""

    code = "not_found"
    http_status = 404
    remedy = "Check the id and the API key. A file may have expired: see `expired_time` of the recording."


class WrongStateError(FarmError):
    """The recording's state does not allow this operation."""

    code = "wrong_state"
    http_status = 409
    remedy = (
        "Get the recording and look at `status`: a stopped recording cannot be paused, a running one "
        "cannot be deleted."
    )


class TakenOverError(FarmError):
    """Another node records this recording now."""

    code = "taken_over"
    http_status = 409
    remedy = "Get the recording again; the farm resumes it on that node."


class AlreadyRecordingError(FarmError):
    """The meeting has an active recording."""

    code = "already_recording"
    http_status = 409
    remedy = "Stop that recording first, or set `allow_multiple_recordings`."


class NothingLiveError(FarmError):
    """There is no live picture of the recording at this moment."""

    code = "nothing_live"
    http_status = 409
    remedy = (
        "Ask again while the recording is RECORDING or PAUSED; a VP8 recording has live.jpg alone, "
        "an audio recording neither."
    )


class TooManyStreamsError(FarmError):
    """The organization has the maximum number of event streams open."""

    code = "too_many_streams"
    http_status = 429
    remedy = "Close a stream, or let the operator raise `FARM_EVENT_STREAMS`."
    retry_after: ClassVar[int] = 10
    """In seconds."""


class WebhookExistsError(FarmError):
    """The organization already has a webhook with this URL."""

    code = "webhook_exists"
    http_status = 409
    remedy = "Change that webhook instead (PATCH), or delete it first."


class TooManyWebhooksError(FarmError):
    """The organization has the maximum number of webhooks."""

    code = "too_many_webhooks"
    http_status = 409
    remedy = "Delete a webhook, or let the operator raise `FARM_WEBHOOK_LIMIT`."


class StoreUnavailableError(FarmError):
    """The farm's own store does not answer, or refuses."""

    code = "store_unavailable"
    http_status = 503
    remedy = "Try again later; the operator finds the reason in the farm's log and in `/readyz`."


class RedisUnavailableError(FarmError):
    """The farm's Redis does not answer, or rejects writes."""

    code = "redis_unavailable"
    http_status = 503
    remedy = (
        "Try again after `Retry-After` seconds; the operator finds the reason in `/readyz` (`redis_fault`)."
    )


class RedisEvictsError(FarmError):
    """Redis may evict keys when its memory is short."""

    code = "redis_evicts"
    http_status = 503


class ProgramMissingError(FarmError):
    """An outside program is not installed.

    `program` is its name, `package` its Debian package.
    """

    code = "program_missing"
    http_status = 503
    exit_code = 78

    def __init__(self, program: str, package: str) -> None:
        """The message has the command that installs `package`."""
        verb = "are" if ", " in program else "is"
        super().__init__(f"{program} {verb} not installed; install with: apt-get install {package}")
        self.program = program
        self.package = package


class RecordUnreadableError(FarmError):
    """The record of the recording has a format that this version of the farm cannot read."""

    code = "record_unreadable"
    remedy = "Upgrade all machines of the farm to one version."


class RecordingFailedError(FarmError):
    """The recording failed."""

    code = "recording_failed"
