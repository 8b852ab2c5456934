"""The time limit of a job, as an exception that libraries do not swallow."""

from types import FrameType
from typing import Any

from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty


class TimeLimitError(BaseException):
    """A job exceeded its time limit.

    RQ's own JobTimeoutException is an Exception, which libraries take for a failed operation: boto3 would
    retry for as long as its own limits allow.
    """


class TimeLimit(UnixSignalDeathPenalty):
    """RQ's "death penalty": raises TimeLimitError in a job, and RQ's own exception elsewhere."""

    def handle_death_penalty(self, signal: int, frame: FrameType | None) -> None:
        """Interrupt the code that exceeded the limit."""
        if self._exception is JobTimeoutException:
            raise TimeLimitError(f"the job took longer than {self._timeout} s")
        # RQ itself expects this one: it interrupts the wait for its work horse.
        super().handle_death_penalty(signal, frame)  # type: ignore[no-untyped-call]

    def __exit__(self, *raised: Any) -> None:
        """Cancel the limit; if it fires at this moment, the job is done and it is ignored."""
        try:
            super().__exit__(*raised)  # type: ignore[no-untyped-call]
        except TimeLimitError:
            self.cancel_death_penalty()  # type: ignore[no-untyped-call]
