"""The RQ jobs: record, finish, transfer, and expire."""
