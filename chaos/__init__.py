"""Chaos: recordings through the real service while its parts are killed and stopped at random."""
