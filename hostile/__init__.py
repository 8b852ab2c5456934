"""Attacks on a farm with a victim that records: `make hostile`."""
