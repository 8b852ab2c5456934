"""The wall clock, in UTC."""

from datetime import UTC, datetime


def time_text(moment: datetime) -> str:
    """A time in ISO 8601, in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)
