"""The old name of `farm.jobs.entry.send_webhooks`; jobs queued by 0.1 have it. Remove it after 0.2."""

from farm.jobs.entry import send_webhooks as send_due

__all__ = ["send_due"]
