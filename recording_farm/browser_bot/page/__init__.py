"""The bot: opens and joins a meeting's page, follows its signals, and detects when it is over or lost."""
