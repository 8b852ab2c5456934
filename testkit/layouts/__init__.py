"""What tests of layouts compare."""
