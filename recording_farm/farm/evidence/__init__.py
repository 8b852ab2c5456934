"""Evidence of failures: how it is collected, kept and uploaded."""
