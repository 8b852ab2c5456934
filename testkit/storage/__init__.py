"""Real servers of each kind of storage."""
