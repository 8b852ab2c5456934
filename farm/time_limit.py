"""How long a job may take, told so that nothing on the way swallows it."""

from types import FrameType
from typing import Any

from rq.timeouts import UnixSignalDeathPenalty


class TimeIsUp(BaseException):
    """A job has taken longer than it may.

    RQ's own JobTimeoutException is an Exception, which libraries take for a fault of what they were at:
    boto3 tries again then, for as long as its own limits allow.
    """


class TimeLimit(UnixSignalDeathPenalty):
    """What RQ's workers put around a job; raises TimeIsUp in it."""

    def handle_death_penalty(self, _signal: int, _frame: FrameType | None) -> None:
        """Interrupt the job wherever it is."""
        raise TimeIsUp(f"the job took longer than {self._timeout} s")

    def __exit__(self, *raised: Any) -> None:
        """Take the limit away; one that comes just now is late, and the job is done."""
        try:
            self.cancel_death_penalty()  # type: ignore[no-untyped-call]
        except TimeIsUp:
            self.cancel_death_penalty()  # type: ignore[no-untyped-call]
