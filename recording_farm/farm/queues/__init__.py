"""The queues of RQ: which job waits in which, and for whom."""
