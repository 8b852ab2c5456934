"""The worker of a node: its slots, their admission, and what ends with it."""
