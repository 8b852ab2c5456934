"""The stage of a recording: its display, its sound device and its browser, and what is left of dead ones."""
