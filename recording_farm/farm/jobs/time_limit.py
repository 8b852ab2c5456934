"""How long a job may take, told so that nothing on the way swallows it."""

from types import FrameType
from typing import Any

from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty


class TimeLimitError(BaseException):
    """A job has taken longer than it may.

    RQ's own JobTimeoutException is an Exception, which libraries take for a fault of what they were at:
    boto3 tries again then, for as long as its own limits allow.
    """


class TimeLimit(UnixSignalDeathPenalty):
    """What RQ's workers put around a job, in which it raises TimeLimitError, and around their own waiting."""

    def handle_death_penalty(self, signal: int, frame: FrameType | None) -> None:
        """Interrupt what is limited, wherever it is."""
        if self._exception is JobTimeoutException:
            raise TimeLimitError(f"the job took longer than {self._timeout} s")
        # RQ itself waits for this one: it looks after its work horse now and then.
        super().handle_death_penalty(signal, frame)  # type: ignore[no-untyped-call]

    def __exit__(self, *raised: Any) -> None:
        """Take the limit away; one that comes just now is late, and the job is done."""
        try:
            super().__exit__(*raised)  # type: ignore[no-untyped-call]
        except TimeLimitError:
            self.cancel_death_penalty()  # type: ignore[no-untyped-call]
