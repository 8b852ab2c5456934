"""The bot that opens a meeting's page, joins, follows its signals, and tells when it is over or lost."""
