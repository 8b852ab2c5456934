"""Settings of the farm, and the addresses of Redis and of the store in them."""
