"""API keys, the farm's secret key, and encryption with it."""
