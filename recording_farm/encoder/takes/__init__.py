"""Takes: uninterrupted runs of ffmpeg on one clock, and the watchdog over each."""
