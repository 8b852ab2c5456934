"""The stage of a recording: display, audio device and browser; and the cleanup of orphaned stages."""
