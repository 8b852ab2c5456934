"""`python -m layouts`: what `farm layouts` runs."""

from layouts.cli import main

if __name__ == "__main__":
    main()
