"""Media files, whole or still growing: their packets, what they hold, and where they break off."""
