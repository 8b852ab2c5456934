"""Redis: connections, the one that the farm starts itself, streams, and what can be wrong with it."""
