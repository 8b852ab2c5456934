"""The queues of RQ, and the jobs in each."""
