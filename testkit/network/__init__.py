"""Servers, ports and links that break, of a network of the tests' own."""
