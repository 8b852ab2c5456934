"""The fidelity check: a page with a frame counter, flashes and beeps, and what reads its recording."""
