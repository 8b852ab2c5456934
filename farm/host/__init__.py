"""The machine a node runs on: its resources, its processes, real-time rights, certificate authorities and fonts."""
