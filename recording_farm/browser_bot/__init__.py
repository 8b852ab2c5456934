"""The stage (display, audio device, browser) and the bot that drives the page on it."""
