"""What handlers share while the API runs: limits, sessions, tokens, watches."""
