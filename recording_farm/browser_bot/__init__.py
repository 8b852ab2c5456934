"""The stage (display, sound, browser) and the bot that drives the page on it."""
