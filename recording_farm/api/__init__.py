"""The HTTP API of the farm, with its portal and the built-in meeting: what clients and people talk to."""
