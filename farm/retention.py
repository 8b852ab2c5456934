"""The old name of `farm.jobs.entry.delete_expired`; jobs queued by 0.1 have it. Remove it after 0.2."""

from farm.jobs.entry import delete_expired as sweep

__all__ = ["sweep"]
