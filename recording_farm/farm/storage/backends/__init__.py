"""The storages that files are uploaded to, one module for each kind."""
