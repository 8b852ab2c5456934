"""The machine a node runs on: resources, processes, real-time scheduling, CA certificates, fonts."""
