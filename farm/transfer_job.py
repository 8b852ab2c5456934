"""The old name of `farm.jobs.entry.transfer`; jobs queued by 0.1 have it. Remove it after 0.2."""

from farm.jobs.entry import transfer as transfer

__all__ = ["transfer"]
