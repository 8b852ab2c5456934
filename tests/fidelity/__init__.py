"""The fidelity check: a page with a frame counter and a flash and beep each second, and what reads its recording."""
