"""The command line, `farm`."""
