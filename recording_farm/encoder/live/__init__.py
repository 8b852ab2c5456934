"""A recording while it is made: its packets followed from take to take, and HLS."""
