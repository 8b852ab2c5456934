"""The cut: the takes of a recording joined into one finished file without encoding again, and audio files."""
