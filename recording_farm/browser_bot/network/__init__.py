"""Which addresses a page may reach: the address rule, name resolution, and the proxy that applies them."""
