"""The one error tree of the farm.

Every error says what happened, to which recording, and what to do about it. `code` is stable and made for
programs, `http_status` is what the API answers, the message is made for people and never holds a secret.
"""

from typing import ClassVar


class FarmError(Exception):
    """The root: catch this to catch everything the farm raises on purpose.

    Two errors are not below it: `farm.safe_http.BadCertificateError`, an error of httpx, and
    `farm.jobs.time_limit.TimeLimitError`, which `except Exception` must not catch.
    """

    code: ClassVar[str] = "farm_error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    """What a command ends with: 78 (EX_CONFIG of sysexits.h) if starting it again cannot help."""

    def __init__(self, message: str) -> None:
        """`message` is a whole sentence, shown to whoever asked."""
        super().__init__(message)
        self.message = message


class SettingsError(FarmError):
    """A setting cannot be used; the message names the variable (`FARM_…`)."""

    code = "bad_setting"
    exit_code = 78


class InvalidRequestError(FarmError):
    """A field of a request has a value that is not allowed; the message names the field."""

    code = "invalid_request"
    http_status = 422


class AddressRefusedError(InvalidRequestError):
    """The page to record, or a webhook, lies at an address the farm does not open."""

    code = "address_refused"


class NotPermittedError(FarmError):
    """The credentials are good, and not for what was asked."""

    code = "not_permitted"
    http_status = 403


class KeysUnavailableError(FarmError):
    """The public keys that check participants' tokens cannot be had; `retry_after` is in seconds."""

    code = "keys_unavailable"
    http_status = 503

    def __init__(self, message: str, retry_after: int) -> None:
        """The message says where they should come from."""
        super().__init__(message)
        self.retry_after = retry_after


class LinkRefusedError(FarmError):
    """A download link that has expired or was not signed by this farm."""

    code = "link_refused"
    http_status = 403


class NotFoundError(FarmError):
    """No such recording, file or webhook, or it belongs to someone else; the two look the same on purpose."""

    code = "not_found"
    http_status = 404


class WrongStateError(FarmError):
    """The recording is not in a state that allows what was asked."""

    code = "wrong_state"
    http_status = 409


class TakenOverError(FarmError):
    """Another node has the recording now."""

    code = "taken_over"
    http_status = 409


class AlreadyRecordingError(FarmError):
    """The meeting has an active recording and the client did not ask for several."""

    code = "already_recording"
    http_status = 409


class NothingLiveError(FarmError):
    """There is nothing to be seen of a recording at this moment."""

    code = "nothing_live"
    http_status = 409


class TooManyStreamsError(FarmError):
    """The organization has as many event streams open as it may have."""

    code = "too_many_streams"
    http_status = 429


class WebhookExistsError(FarmError):
    """The organization has a webhook with this URL already."""

    code = "webhook_exists"
    http_status = 409


class TooManyWebhooksError(FarmError):
    """The organization has as many webhooks as it may have."""

    code = "too_many_webhooks"
    http_status = 409


class StoreUnavailableError(FarmError):
    """The farm's own store cannot be reached, or refuses; what is the matter there is in the log."""

    code = "store_unavailable"
    http_status = 503


class RedisUnavailableError(FarmError):
    """Redis cannot be reached, or cannot be started."""

    code = "redis_unavailable"
    http_status = 503


class RedisEvictsError(FarmError):
    """Redis is set to delete keys when its memory is short."""

    code = "redis_evicts"
    http_status = 503


class ProgramMissingError(FarmError):
    """An outside program is not installed.

    `program` is its name, `package` the Debian package that brings it.
    """

    code = "program_missing"
    http_status = 503
    exit_code = 78

    def __init__(self, program: str, package: str) -> None:
        """The message tells how to install `package`."""
        verb = "are" if ", " in program else "is"
        super().__init__(f"{program} {verb} not installed; install with: apt-get install {package}")
        self.program = program
        self.package = package


class RecordUnreadableError(FarmError):
    """What Redis has of a recording was written by another version of the farm, or by something else."""

    code = "record_unreadable"


class RecordingFailedError(FarmError):
    """The recording could not be made."""

    code = "recording_failed"
