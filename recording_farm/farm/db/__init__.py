"""Redis: clients, the embedded server, streams, and faults."""
