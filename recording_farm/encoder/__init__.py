"""The encoder: ffmpeg takes of a stage's display and sound, on one clock, and their cut into one file."""
