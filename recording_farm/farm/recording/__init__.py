"""What a recording is: its record and states in Redis, its commands, outputs, timeline and files."""
