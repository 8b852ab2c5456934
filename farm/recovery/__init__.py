"""What dead processes and lost nodes leave behind, resumed or finished."""


def look_for_lost() -> None:
    """The old name of `farm.jobs.entry.resume_unqueued`, for jobs of the version before 0.2."""
    from farm.recovery.local_spool import look_for_lost

    look_for_lost()
