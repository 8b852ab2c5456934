"""The old name of `farm.jobs.entry.finish`; jobs queued by 0.1 have it. Remove it after 0.2."""

from farm.jobs.entry import finish as finish

__all__ = ["finish"]
