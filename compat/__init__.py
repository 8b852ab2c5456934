"""Tries the farm with software that others wrote: what docs/compatibility.md tells can be tried again."""
