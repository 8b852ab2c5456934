"""The wall clock: times as the farm keeps and writes them, in UTC."""

from datetime import UTC, datetime


def time_text(moment: datetime) -> str:
    """A time as clients see it: ISO 8601, in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> datetime:
    """The present time, aware, in UTC."""
    return datetime.now(UTC)
