"""API keys, the farm's own secret, and what is sealed with it."""
