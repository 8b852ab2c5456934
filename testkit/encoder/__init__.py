"""Takes and films, made and measured."""
