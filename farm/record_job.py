"""The old name of `farm.jobs.entry.record`; jobs queued by 0.1 have it. Remove it after 0.2."""

from farm.jobs.entry import record as record

__all__ = ["record"]
