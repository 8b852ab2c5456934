"""Media files, whole, truncated or still growing: their packets and contents."""
