"""The built-in meeting: its page, rooms, messages and tokens."""
