"""The network access of pages: the address rule, name resolution, and the proxy that enforces the rule."""
