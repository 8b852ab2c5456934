"""Evidence of a recording: what is collected when something went wrong, and where it is kept."""
