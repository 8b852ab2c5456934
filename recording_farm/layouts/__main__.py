"""`python -m recording_farm.layouts`, which `farm layouts` runs."""

from recording_farm.layouts.cli import main

if __name__ == "__main__":
    main()
